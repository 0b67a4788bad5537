package main

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"proxmox-realm/internal/lab"
)

// controlFile lies beside LAB_AUTHELIA_CONFIG and holds the address at which the lab takes commands, with a secret in it.
const controlFile = "control"

// startControl lets other processes of the user restart the issuer of a lab, until end is called.
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
			if r.Method != http.MethodPost || subtle.ConstantTimeCompare([]byte(r.URL.Path), []byte(path)) != 1 {
				http.NotFound(w, r)
				return
			}
			if err := running.RestartIssuer(); err != nil {
				http.Error(w, err.Error(), http.StatusUnprocessableEntity)
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
	file := os.Getenv("LAB_AUTHELIA_CONFIG")
	if file == "" {
		return errors.New("LAB_AUTHELIA_CONFIG is not set: run this in a lab")
	}
	address, err := os.ReadFile(filepath.Join(filepath.Dir(file), controlFile))
	if err != nil {
		return fmt.Errorf("the issuer is not a lab's: %w", err)
	}
	client := &http.Client{Timeout: 45 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(string(address), "text/plain", nil)
	if err != nil {
		return errors.New("the lab does not answer: it has ended")
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(text)))
	}
	return nil
}
