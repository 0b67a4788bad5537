package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/lab/pve"
)

// TestScriptsOfACluster runs scripts against three nodes, each in a zone of its own. The third one is off.
func TestScriptsOfACluster(t *testing.T) {
	testscript.Run(t, scripts(t, "testdata/cluster", pve.Node{Zone: "Europe/Vienna"}, pve.Node{Zone: "Asia/Kathmandu"}, pve.Node{Off: true}))
}

// logsin [USER] logs in through the issuer, as a browser does. ! logsin [USER] expects that this fails.
func logsIn(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	user := l.Username
	if len(args) > 0 {
		user = args[0]
	}
	_, err := l.LogIn(context.Background(), user, l.Password, "")
	if (err != nil) != neg {
		ts.Fatalf("%s logs in: %v", user, err)
	}
}

// logged NODE AGO MESSAGE adds a line of pvedaemon to the log of a node, written so long ago. "@FILE" is the message in a file; a message
// in double quotes is a Go string.
func logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: logged NODE AGO MESSAGE")
	}
	ago, err := time.ParseDuration(args[1])
	ts.Check(err)
	message := args[2]
	if file, ok := strings.CutPrefix(message, "@"); ok {
		text, err := os.ReadFile(ts.MkAbs(file))
		ts.Check(err)
		message = string(text)
	}
	if strings.HasPrefix(message, `"`) {
		message, err = strconv.Unquote(message)
		ts.Check(err)
	}
	ts.Check(theLab(ts).PVE.Log(args[0], pve.Line{Time: time.Now().Add(-ago), Process: "pvedaemon", PID: 4711, Message: message}))
}
