//go:build unix

package fleet_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

// The table of `make bench` compares `proxmox-realm apply -o jsonl` with a minimal Go client. That one sends the same requests
// with the same concurrency. Each is a process of its own, against a lab in a third process. Nothing is pinned or repeated: the
// table shows what grows with the targets, not percents.
//
// A row is one number of targets on four clusters, so that each target is a connection of its own. The issuer is either one for
// all targets or one for each target, with a host of its own. `create` starts without the realms, `no-op` with realms that are
// as declared. The round trip is that of the network to Proxmox and issuer: a connection costs two and each request one more.
// The costly checks are off, because Proxmox and issuers bound how often they may be made.
//
//	wall       from the start of the process to its end
//	cpu        of the process, user and system, for each target; at one target it is the start of the process
//	peak       the greatest resident memory of the process. The configuration is read before the first request; a target
//	           needs 1.1 KiB of it. Results, and what is remembered, are in memory only while their target runs. The heap
//	           may grow to twice what is in use
//	requests   to Proxmox and to issuers, for each target. A no-op reads the realm. A create also writes it, reads it back
//	           and asks what the token may do. An issuer is asked for its discovery document and its keys
//	ratio      cpu of the agent by cpu of the minimal client
//
// The minimal client knows neither configuration files nor checks; it parses each answer and fails for any status but 200.
const (
	tableClusters    = 4
	tableConcurrency = 64
)

// roleVariable makes a process of this test binary one of the three programs.
const roleVariable = "FLEET_TABLE_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "lab":
		os.Exit(runLab())
	case "agent":
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	case "minimal":
		os.Exit(runMinimal(os.Args[1], os.Args[2] == "create"))
	}
	goleak.VerifyTestMain(m)
}

// BenchmarkTable prints the table. FLEET_TABLE_TARGETS names other numbers of targets. With FLEET_TABLE_FULL there are rows of
// 10,000 issuers as well, which take half of the time.
func BenchmarkTable(b *testing.B) {
	sizes := []int{1, 100, 1000, 10000}
	if text := os.Getenv("FLEET_TABLE_TARGETS"); text != "" {
		sizes = nil
		for word := range strings.FieldsSeq(text) {
			n, err := strconv.Atoi(word)
			if err != nil {
				b.Fatal(err)
			}
			sizes = append(sizes, n)
		}
	}
	_, _ = fmt.Fprintln(os.Stdout)
	table(b, os.Stdout, sizes, []time.Duration{0, 20 * time.Millisecond})
}

// The programs of the table do what it says they do.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	rows := table(t, &out, []int{6}, []time.Duration{0})
	if len(rows) != 4 {
		t.Fatalf("%d rows:\n%s", len(rows), &out)
	}
	for _, r := range rows {
		toProxmox, toIssuers := 1, 2
		if r.command == "create" {
			toProxmox = 4
		}
		if r.issuers == "each its own" {
			toIssuers *= 6
		}
		for name, m := range map[string]measured{"agent": r.agent, "minimal": r.minimal} {
			if m.pve != 6*toProxmox || m.issuer != toIssuers {
				t.Errorf("%s, %s, %s: %d requests to Proxmox and %d to issuers", r.command, r.issuers, name, m.pve, m.issuer)
			}
		}
	}
}

type tableRow struct {
	command, issuers string
	agent, minimal   measured
}

// measured is what one process cost.
type measured struct {
	wall, cpu   time.Duration
	peak        int64 // KiB
	pve, issuer int   // requests
}

func table(t testing.TB, out io.Writer, sizes []int, trips []time.Duration) (rows []tableRow) {
	t.Helper()
	line := func(cells ...any) { // as each is known: a row can take a minute
		_, _ = fmt.Fprintf(out, "%7v  %-12v  %10v  %-7v  %8v  %10v  %7v  %15v  %13v  %10v  %7v  %5v\n", cells...)
	}
	line("targets", "issuer", "round trip", "command", "wall", "cpu/target", "peak", "requests/target", "minimal: wall", "cpu/target", "peak", "ratio")
	for _, trip := range trips {
		for _, issuers := range []string{"one", "each its own"} {
			for _, n := range sizes {
				if issuers != "one" && n > 1000 && os.Getenv("FLEET_TABLE_FULL") == "" {
					continue
				}
				l := startTableLab(t, trip)
				agent, minimal := l.targets(t, "a", n, issuers), l.targets(t, "m", n, issuers)
				for _, command := range []string{"create", "no-op"} {
					r := tableRow{command: command, issuers: issuers}
					r.agent = l.measure(t, "agent", "apply", "-o", "jsonl", "-c", agent.config)
					r.minimal = l.measure(t, "minimal", minimal.list, command)
					rows = append(rows, r)
					each := func(m measured) string { return fmt.Sprintf("%.2f ms", m.cpu.Seconds()*1000/float64(n)) }
					wall := func(m measured) string { return fmt.Sprintf("%.2f s", m.wall.Seconds()) }
					peak := func(m measured) string { return fmt.Sprintf("%d MiB", m.peak>>10) }
					requests := fmt.Sprintf("%.2f + %.2f", float64(r.agent.pve)/float64(n), float64(r.agent.issuer)/float64(n))
					ratio := fmt.Sprintf("%.2f", r.agent.cpu.Seconds()/r.minimal.cpu.Seconds())
					line(n, issuers, trip, command, wall(r.agent), each(r.agent), peak(r.agent), requests,
						wall(r.minimal), each(r.minimal), peak(r.minimal), ratio)
				}
				l.stop(t)
			}
		}
	}
	return rows
}

// tableLab is the process of a lab.
type tableLab struct {
	labFacts
	dir     string
	process *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Scanner
}

// labFacts is what the lab tells of itself.
type labFacts struct {
	Endpoints                []string
	Token, CA                string
	Issuer, OwnIssuers       string // the latter with %s in place of the host
	ClientID, ClientKey, Dir string
}

func startTableLab(t testing.TB, trip time.Duration) *tableLab {
	t.Helper()
	l := &tableLab{dir: t.TempDir()}
	l.process = program(t, "lab", trip.String())
	var err error
	if l.ask, err = l.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := l.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.process.Start(); err != nil {
		t.Fatal(err)
	}
	l.answers = bufio.NewScanner(stdout)
	if !l.answers.Scan() {
		t.Fatal("the lab does not start")
	}
	if err := json.Unmarshal(l.answers.Bytes(), &l.labFacts); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *tableLab) stop(t testing.TB) {
	t.Helper()
	_ = l.ask.Close()
	if err := l.process.Wait(); err != nil {
		t.Errorf("the lab: %v", err)
	}
}

func program(t testing.TB, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// measure runs a program to its end.
func (l *tableLab) measure(t testing.TB, role string, args ...string) measured {
	t.Helper()
	cmd := program(t, role, args...)
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v", role, args, err)
	}
	m := measured{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.peak = usage.Maxrss
	}
	_, _ = io.WriteString(l.ask, "count\n")
	if !l.answers.Scan() {
		t.Fatal("the lab does not answer")
	}
	if _, err := fmt.Sscan(l.answers.Text(), &m.pve, &m.issuer); err != nil {
		t.Fatal(err)
	}
	return m
}

// benchTarget is a target as the minimal client knows it.
type benchTarget struct{ Endpoint, Realm, Issuer string }

// targets writes targets for the agent and for the minimal client.
func (l *tableLab) targets(t testing.TB, prefix string, n int, issuers string) (files struct{ config, list string }) {
	t.Helper()
	dir := filepath.Join(l.dir, prefix)
	write := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("token", l.Token+"\n")
	write("key", l.ClientKey+"\n")
	write("ca.pem", l.CA)
	var list []benchTarget
	for i := range n {
		b := benchTarget{Endpoint: l.Endpoints[i%len(l.Endpoints)], Realm: fmt.Sprintf("%s%d", prefix, i), Issuer: l.Issuer}
		if issuers == "each its own" {
			b.Issuer = fmt.Sprintf(l.OwnIssuers, net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i)))
		}
		list = append(list, b)
		write(fmt.Sprintf("targets/%s.yaml", b.Realm), fmt.Sprintf(
			"proxmox: {endpoints: [%q], token_file: ../token, ca_file: ../ca.pem}\nrealm: {name: %s, issuer_url: %q}\n", b.Endpoint, b.Realm, b.Issuer))
	}
	files.config = write("config.yaml", fmt.Sprintf("realm: {client_id: %s, client_key_file: key, scopes: [openid, profile, email]}\n"+
		"verify: {issuer_ca_file: ca.pem, proxmox: false, client: false}\n"+
		"targets_from: targets\nconcurrency: %d\nstate_dir: state\n", l.ClientID, tableConcurrency))
	text, err := json.Marshal(map[string]any{"Lab": l.labFacts, "Targets": list})
	if err != nil {
		t.Fatal(err)
	}
	files.list = write("list.json", string(text))
	return files
}

// runMinimal is the minimal client.
func runMinimal(file string, create bool) int {
	var in struct {
		Lab     labFacts
		Targets []benchTarget
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(in.Lab.CA))
	client := func() *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, Timeout: time.Minute}
	}
	var failed atomic.Bool
	ask := func(c *http.Client, method, url string, body any, answer any) {
		var reader io.Reader
		if body != nil {
			encoded, _ := json.Marshal(body)
			reader = bytes.NewReader(encoded)
		}
		req, err := http.NewRequestWithContext(context.Background(), method, url, reader)
		if err != nil {
			panic(err)
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		if strings.Contains(url, "/api2/") {
			req.Header.Set("Authorization", "PVEAPIToken="+in.Lab.Token)
		}
		res, err := c.Do(req)
		if err == nil {
			if err = json.NewDecoder(res.Body).Decode(answer); err == nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusInternalServerError {
				err = errors.New(res.Status)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if err != nil {
			failed.Store(true)
			fmt.Fprintln(os.Stderr, method, url, err)
		}
	}
	inspect := func(c *http.Client, issuer string) {
		var document struct {
			JWKS string `json:"jwks_uri"`
		}
		ask(c, http.MethodGet, issuer+"/.well-known/openid-configuration", nil, &document)
		ask(c, http.MethodGet, document.JWKS, nil, &map[string]any{})
	}
	atIssuers := client()
	shared := sync.OnceFunc(func() { inspect(atIssuers, in.Lab.Issuer) })
	one := func(b benchTarget) {
		var inspection sync.WaitGroup
		inspection.Go(func() {
			if b.Issuer == in.Lab.Issuer {
				shared()
				return
			}
			inspect(atIssuers, b.Issuer)
		})
		c := client()
		defer c.CloseIdleConnections()
		domains := b.Endpoint + "/api2/json/access/domains"
		ask(c, http.MethodGet, domains+"/"+b.Realm, nil, &map[string]any{})
		inspection.Wait()
		if create {
			ask(c, http.MethodPost, domains, map[string]any{
				"realm": b.Realm, "type": "openid", "issuer-url": b.Issuer, "client-id": in.Lab.ClientID, "client-key": in.Lab.ClientKey,
				"username-claim": "preferred_username", "scopes": "openid profile email",
			}, &map[string]any{})
			ask(c, http.MethodGet, domains+"/"+b.Realm, nil, &map[string]any{})
			ask(c, http.MethodGet, b.Endpoint+"/api2/json/access/permissions", nil, &map[string]any{})
		}
	}
	next := make(chan benchTarget)
	var workers sync.WaitGroup
	for range tableConcurrency {
		workers.Go(func() {
			for b := range next {
				one(b)
			}
		})
	}
	for _, b := range in.Targets {
		next <- b
	}
	close(next)
	workers.Wait()
	if failed.Load() {
		return 1
	}
	return 0
}

// runLab is the lab. For each line on its standard input it says how many requests came to Proxmox and to issuers.
func runLab() int {
	trip, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	l, err := lab.Start(lab.Options{Clusters: tableClusters, PVE: pve.Options{RoundTrip: trip}, Issuer: issuer.Options{RoundTrip: trip}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = l.Close() }()
	own := &ownIssuers{lab: l, trip: trip}
	facts := labFacts{
		Token: l.PVE.Token(pve.TokenRealmAllocate), CA: string(l.Authority.PEM()), Issuer: l.IssuerURL, OwnIssuers: own.start(),
		ClientID: l.ClientID, ClientKey: l.ClientKey, Dir: l.Dir,
	}
	for _, c := range l.Clusters {
		facts.Endpoints = append(facts.Endpoints, c.URL())
	}
	_ = json.NewEncoder(os.Stdout).Encode(facts)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		atProxmox, atIssuer := 0, len(l.Issuer.Requests())+int(own.requests.Swap(0))
		l.Issuer.Reset()
		for _, c := range l.Clusters {
			atProxmox += len(c.Requests())
			c.Reset()
		}
		_, _ = fmt.Fprintln(os.Stdout, atProxmox, atIssuer)
	}
	return 0
}

// ownIssuers answers at every address of 127.0.0.0/8 as an issuer of its own, with the documents of the lab's issuer.
type ownIssuers struct {
	lab      *lab.Lab
	trip     time.Duration
	requests atomic.Int64
	document map[string]string // by path
	issued   sync.Map          // certificates by address
}

func (o *ownIssuers) start() (format string) {
	o.document = map[string]string{}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.lab.Authority.Pool(), MinVersion: tls.VersionTLS12}}}
	var discovery struct {
		JWKS string `json:"jwks_uri"`
	}
	for _, path := range []string{"/.well-known/openid-configuration", ""} {
		if path == "" {
			path = strings.TrimPrefix(discovery.JWKS, o.lab.IssuerURL)
		}
		res, err := c.Get(o.lab.IssuerURL + path)
		if err != nil {
			panic(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			panic(err)
		}
		_ = json.Unmarshal(text, &discovery)
		o.document[path] = string(text)
	}
	c.CloseIdleConnections()
	o.lab.Issuer.Reset()
	listener, err := net.Listen("tcp4", ":0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: o.certificate}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return "https://%s:" + port
}

func (o *ownIssuers) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	time.Sleep(2 * o.trip)
	host, _, _ := net.SplitHostPort(hello.Conn.LocalAddr().String())
	if known, ok := o.issued.Load(host); ok {
		return known.(*tls.Certificate), nil //nolint:forcetypeassert // it was stored here
	}
	issued, err := o.lab.Authority.Issue(authority.Valid, host)
	if err == nil {
		o.issued.Store(host, &issued)
	}
	return &issued, err
}

func (o *ownIssuers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(o.trip)
	o.requests.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, strings.ReplaceAll(o.document[r.URL.Path], o.lab.IssuerURL, "https://"+r.Host))
}
