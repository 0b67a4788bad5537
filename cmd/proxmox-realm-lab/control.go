package main

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"proxmox-realm/internal/lab"
)

// controlFile lies beside LAB_AUTHELIA_CONFIG and holds the address at which the lab takes commands, with a secret in it.
const controlFile = "control"

// startControl lets other processes of the user restart the issuer of a lab, and log in through it, until end is called.
func startControl(running *lab.Lab) (end func() error, err error) {
	if running.Issuer == nil {
		return func() error { return nil }, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	path := "/" + rand.Text()
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			secret, command := r.URL.Path[:min(len(path), len(r.URL.Path))], r.URL.Path[min(len(path), len(r.URL.Path)):]
			if r.Method != http.MethodPost || subtle.ConstantTimeCompare([]byte(secret), []byte(path)) != 1 {
				http.NotFound(w, r)
				return
			}
			var err error
			switch command {
			case "/restart-issuer":
				err = running.RestartIssuer()
			case "/login":
				user := cmp.Or(r.URL.Query().Get("user"), running.Username)
				if user, err = running.LogIn(r.Context(), user, running.Password, ""); err == nil {
					_, err = fmt.Fprintln(w, user)
				}
			default:
				http.NotFound(w, r)
				return
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
				return
			}
		}),
	}
	go func() { _ = server.Serve(listener) }() // ends with ErrServerClosed
	file := filepath.Join(filepath.Dir(running.AutheliaConfig), controlFile)
	return server.Close, os.WriteFile(file, []byte("http://"+listener.Addr().String()+path), 0o600)
}

// restartIssuer makes the lab's issuer read LAB_AUTHELIA_CONFIG again.
func restartIssuer(arguments []string, _ io.Writer) error {
	if rest, err := parse(quiet("restart-issuer"), arguments); err != nil {
		return err
	} else if len(rest) > 0 {
		return usage("restart-issuer takes no argument")
	}
	_, err := control("/restart-issuer")
	return err
}

// logIn logs a user in through the issuer, as a browser does, and prints the user id of Proxmox.
func logIn(arguments []string, stdout io.Writer) error {
	users, err := parse(quiet("login"), arguments)
	if err != nil {
		return err
	}
	if len(users) > 1 {
		return usage("login takes one user")
	}
	text, err := control("/login?user=" + url.QueryEscape(strings.Join(users, "")))
	if err == nil {
		_, err = fmt.Fprintln(stdout, text)
	}
	return err
}

// control gives the lab a command, and returns what it prints.
func control(command string) (printed string, err error) {
	file := os.Getenv("LAB_AUTHELIA_CONFIG")
	if file == "" {
		return "", errors.New("LAB_AUTHELIA_CONFIG is not set: run this in a lab")
	}
	address, err := os.ReadFile(filepath.Join(filepath.Dir(file), controlFile))
	if err != nil {
		return "", fmt.Errorf("the issuer is not a lab's: %w", err)
	}
	client := &http.Client{Timeout: 45 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(string(address)+command, "text/plain", nil)
	if err != nil {
		return "", errors.New("the lab does not answer: it has ended")
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", errors.New(text)
	}
	return text, nil
}
