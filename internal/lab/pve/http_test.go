package pve_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pve"
)

// raw sends bytes over TLS and reads the answer to its end or to the end of what it announces.
func raw(t *testing.T, s *pve.Server, request string) (head []string, body string) {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, request) }()
	return readRaw(t, conn)
}

func readRaw(t *testing.T, conn net.Conn) (head []string, body string) {
	t.Helper()
	in := bufio.NewReader(conn)
	length := -1
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			break
		}
		_, _ = fmt.Sscanf(line, "Content-Length: %d", &length)
		head = append(head, line)
	}
	if length >= 0 {
		b := make([]byte, length)
		_, err := io.ReadFull(in, b)
		if err != nil {
			t.Fatal(err)
		}
		return head, string(b)
	}
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return head, string(b)
}

func TestTransport(t *testing.T) {
	n := newNode(t, pve.Options{})
	token := "Authorization: PVEAPIToken=" + n.Token(pve.TokenRoot) + "\r\n"
	length := func(b string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(b), b) }
	big := strings.Repeat("x", 512<<10+1)
	for _, x := range []struct{ name, request, status, body string }{
		{"OPTIONS", "OPTIONS /api2/json/version HTTP/1.1\r\n\r\n", "HTTP/1.1 501 method 'OPTIONS' not available", ""},
		{"PATCH without credentials", "PATCH /api2/json/version HTTP/1.1\r\n" + length("x"), "HTTP/1.1 501 method 'PATCH' not available", ""},
		{"no API", "GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 500 no such file '/other'", "no such file '/other'\n"},
		{"GET with body", "GET /api2/json/version HTTP/1.1\r\n" + token + length("{}"), "HTTP/1.1 501 Unexpected content for method 'GET'", "Unexpected content for method 'GET'"},
		{"GET with body, nobody", "GET /api2/json/version HTTP/1.1\r\n" + length("{}"), "HTTP/1.1 401 No ticket", ""},
		{"too large", "POST /api2/json/access/domains HTTP/1.1\r\n" + token + length(big), "HTTP/1.1 501 for data too large", "for data too large"},
		{
			"multipart", "POST /api2/json/access/domains HTTP/1.1\r\n" + token + "Content-Type: multipart/form-data; boundary=x\r\n" + length("x"),
			"HTTP/1.1 506 upload 'Content-Type 'multipart/form-data; boundary=x' not implemented", "upload 'Content-Type 'multipart/form-data; boundary=x' not implemented",
		},
		{
			"JSON list", "PUT /api2/json/access/domains/x2 HTTP/1.1\r\n" + token + "Content-Type: application/json\r\n" + length("[]"),
			"HTTP/1.1 500 Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.", "Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.\n",
		},
		{
			"JSON with charset", "PUT /api2/json/access/domains/x2 HTTP/1.1\r\n" + token + "Content-Type: application/json; charset=utf-8\r\n" + length("{}"),
			"HTTP/1.1 500 update auth server failed: no options specified", `{"data":null,"message":"update auth server failed: no options specified\n"}`,
		},
		{"unknown method", "PUT /api2/json/access/domains HTTP/1.1\r\n" + token + length(""), "HTTP/1.1 501 Method 'PUT /access/domains' not implemented", `{"data":null,"message":"Method 'PUT /access/domains' not implemented"}`},
		{"slash at the end is not open", "GET /api2/json/access/domains/ HTTP/1.1\r\n\r\n", "HTTP/1.1 401 No ticket", ""},
		{
			"no parameters allowed", "GET /api2/json/version?x=1 HTTP/1.1\r\n" + token + "\r\n", "HTTP/1.1 400 Parameter verification failed.",
			`{"data":null,"errors":{"x":"property is not defined in schema and the schema does not allow additional properties"},"message":"Parameter verification failed.\n"}`,
		},
		{
			"escaped path", "GET /api2/json/access/domains/p%61m?realm=pve HTTP/1.1\r\n" + token + "\r\n", "HTTP/1.1 400 Parameter verification failed.",
			`{"data":null,"errors":{"realm":"duplicate parameter (already defined in URI) with conflicting values!"},"message":"Parameter verification failed.\n"}`,
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			head, body := raw(t, n.Server, x.request)
			if head[0] != x.status {
				t.Errorf("%q, want %q", head[0], x.status)
			}
			if body = strings.ReplaceAll(body, `\n`, "\n"); body != strings.ReplaceAll(x.body, `\n`, "\n") {
				t.Errorf("%q, want %q", body, x.body)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	n := newNode(t, pve.Options{})
	names := func(head []string) string {
		var list []string
		for _, h := range head[1:] {
			k, v, _ := strings.Cut(h, ": ")
			if k == "Connection" {
				k += "=" + v
			}
			list = append(list, k)
		}
		return strings.Join(list, " ")
	}
	token := "Authorization: PVEAPIToken=" + n.Token(pve.TokenRoot) + "\r\n"
	for _, x := range []struct{ name, request, want string }{
		{"read", "GET /api2/json/version HTTP/1.1\r\n" + token + "\r\n", "Cache-Control Connection=Keep-Alive Content-Length Content-Type Date Expires Pragma Server"},
		{
			"write", "POST /api2/json/access/domains?realm=x2&type=openid&issuer-url=a&client-id=b HTTP/1.1\r\n" + token + "\r\n",
			"Cache-Control Connection=close Connection=Keep-Alive Content-Length Content-Type Date Expires Pragma Server",
		},
		{"refused write", "POST /api2/json/access/domains HTTP/1.1\r\n" + token + "\r\n", "Cache-Control Connection=close Content-Length Content-Type Date Expires Pragma Server"},
		{"nobody", "GET /api2/json/version HTTP/1.1\r\n\r\n", "Cache-Control Connection=close Date Expires Pragma Server"},
		{"closing client", "GET /api2/json/version HTTP/1.1\r\nConnection: close\r\n" + token + "\r\n", "Cache-Control Connection=close Content-Length Content-Type Date Expires Pragma Server"},
	} {
		head, _ := raw(t, n.Server, x.request)
		if got := names(head); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
}
