//go:build unix

package cli

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"proxmox-realm/internal/check"
)

func send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

// A reader that stops reading blocks no interruption.
func TestAReaderThatStopsReading(t *testing.T) {
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = from.Close(), to.Close() }()
	ctx, stop := context.WithCancelCause(t.Context())
	r := &reader{File: to, ctx: ctx}
	if n, err := r.Write([]byte("read")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	stop(check.Errorf(check.Terminated, "stopped"))
	if _, err := r.Write(make([]byte, 1<<20)); check.CodeOf(err) != check.Terminated {
		t.Errorf("%v", err)
	}
}

// Neither Ctrl-C nor a closed terminal may end a run between a DELETE and its POST.
func TestSignalsEndTheContextAndNotTheProcess(t *testing.T) {
	for sent, code := range map[syscall.Signal]check.Code{
		syscall.SIGINT: check.Interrupted, syscall.SIGTERM: check.Terminated, syscall.SIGHUP: check.Terminated,
	} {
		if signal.Ignored(sent) { // these tests run under nohup
			continue
		}
		ctx, stop := interruptible(t.Context(), false)
		send(t, sent)
		<-ctx.Done()
		if err := context.Cause(ctx); check.CodeOf(err) != code {
			t.Errorf("%v: the cause is %v", sent, err)
		}
		stop()
	}
}

func TestACommandThatReloadsHasItsOwnUseForSIGHUP(t *testing.T) {
	own := make(chan os.Signal, 1)
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	ctx, stop := interruptible(t.Context(), true)
	defer stop()
	send(t, syscall.SIGHUP)
	<-own
	if ctx.Err() != nil {
		t.Error("SIGHUP ended the run")
	}
}

// head(1) closes the pipe early. That must neither end a run nor print an error.
func TestAReaderThatHadEnoughIsNoError(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	defer func() { _ = writer.Close() }()
	var stderr bytes.Buffer
	if code := Main([]string{"config", "schema"}, nil, writer, &stderr); code != exitFailed || stderr.Len() > 0 {
		t.Errorf("exit code %d, and on standard error: %s", code, stderr.String())
	}
}
