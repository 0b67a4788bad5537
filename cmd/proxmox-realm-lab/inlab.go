package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
)

// setting holds the values of the flags.
type setting struct {
	seed         string
	product      string
	issuer       string
	state        string
	pveVersion   string
	version      string // of the other products
	listen       string
	issuerListen string
	clusters     int
	nodes        int
	roundTrip    time.Duration
	delays       bool
	limits       bool
	totp         bool
	log          bool
}

func (s *setting) flags() *flag.FlagSet {
	flags := quiet("proxmox-realm-lab")
	flags.StringVar(&s.seed, "seed", "", "")
	flags.StringVar(&s.product, "product", "pve", "")
	flags.StringVar(&s.issuer, "issuer", "", "")
	flags.StringVar(&s.state, "state", "", "")
	flags.StringVar(&s.pveVersion, "pve-version", pve.DefaultVersion, "")
	flags.StringVar(&s.version, "product-version", "", "")
	flags.StringVar(&s.listen, "listen", "", "")
	flags.StringVar(&s.issuerListen, "issuer-listen", "", "")
	flags.IntVar(&s.clusters, "clusters", 1, "")
	flags.IntVar(&s.nodes, "nodes", 1, "")
	flags.BoolVar(&s.totp, "totp", false, "")
	flags.DurationVar(&s.roundTrip, "round-trip", 0, "")
	flags.BoolVar(&s.delays, "delays", false, "")
	flags.BoolVar(&s.limits, "limits", false, "")
	flags.BoolVar(&s.log, "log", false, "")
	return flags
}

// help describes every flag, seed and variable. A test checks that none is missing.
func help() string {
	var text strings.Builder
	text.WriteString(`Runs a stand-in for the access API of a Proxmox product and an OpenID provider on loopback, to try proxmox-realm.

  proxmox-realm-lab [flags] -- COMMAND …     runs COMMAND in the lab and exits with its code
  proxmox-realm-lab [flags]                  prints the environment and runs until a signal

Flags:
  --product NAME         pve, pbs (Backup Server) or pdm (Datacenter Manager)
  --seed NAME            set the realms to one of the states below
  --state DIR            store realms, users, keys and addresses for the next run
  --issuer URL           use this issuer instead of the lab's; LAB_ISSUER_CA_FILE, LAB_CLIENT_ID, LAB_CLIENT_KEY,
                         LAB_REDIRECT_URL, LAB_USERNAME and LAB_PASSWORD describe it
  --pve-version VERSION  behave like this version of Proxmox VE (` + pve.DefaultVersion + `)
  --product-version VERSION
                         behave like this version of Backup Server or Datacenter Manager
  --listen ADDRESS       where the Proxmox API listens (a free port of 127.0.0.1)
  --issuer-listen ADDRESS
                         where the issuer listens (a free port of 127.0.0.1)
  --clusters N           run N clusters with the same users and tokens; each is a target of the configuration
  --nodes N              give each cluster N nodes: pve, pve2, and so on, on 127.0.0.1, 127.0.0.2, and so on;
                         this and --clusters are for Proxmox VE
  --totp                 ask the administrator of Proxmox VE for a one-time password
  --round-trip DURATION  delay each request by DURATION, and each new connection by twice that
  --delays               delay the answers to bad credentials and about nodes that are off, as Proxmox does; with
                         pbs and pdm, changes of ACLs are seen up to 5 s later
  --limits               limit the rate of failed requests at the issuer, as Authelia does
  --log                  log requests to standard error

Seeds:
`)
	names, about := lab.Seeds()
	for _, name := range names {
		fmt.Fprintf(&text, "  %-22s %s\n", name, about[name])
	}
	text.WriteString(`
Change realms as another administrator (needs LAB_ENDPOINT, LAB_CA_FILE and LAB_TOKEN_ROOT):
  proxmox-realm-lab show [REALM]
  proxmox-realm-lab set REALM PROPERTY=VALUE … [--delete PROPERTY,…]
  proxmox-realm-lab remove REALM

Change the client at the issuer as the administrator of Authelia: edit LAB_AUTHELIA_CONFIG, then
  proxmox-realm-lab restart-issuer

Log in through the issuer, as a browser does (LAB_USERNAME, or another of its users):
  proxmox-realm-lab login [USER]

Environment of COMMAND:
  PROXMOX_REALM_CONFIG   the configuration of proxmox-realm for this lab; not with the seed bare
  LAB_AUTHELIA_CONFIG    a file in the form of Authelia's configuration, with the clients of the issuer
  LAB_ADMIN_USERNAME LAB_ADMIN_PASSWORD LAB_ADMIN_TOTP_SECRET
                         an administrator of Proxmox; the last one with --totp
  LAB_PRODUCT LAB_ENDPOINT LAB_ENDPOINTS LAB_CA_FILE LAB_ISSUER LAB_ISSUER_CA_FILE LAB_CLIENT_ID LAB_CLIENT_KEY
  LAB_REDIRECT_URL LAB_USERNAME LAB_PASSWORD LAB_TOKEN_ROOT LAB_TOKEN_REALM_ALLOCATE LAB_TOKEN_SYS_AUDIT
  LAB_TOKEN_NO_PRIVILEGE; pve: LAB_TOKEN_PRIVSEP_WITHOUT_ACL; pbs, pdm: LAB_TOKEN_EXPIRED LAB_TOKEN_DISABLED
  LAB_TOKEN_USER_WITHOUT_ACL LAB_TOKEN_DISABLED_USER LAB_TOKEN_NO_PROPAGATE LAB_TOKEN_LOG_READER

Exit codes: the exit code of COMMAND; 128+n if signal n ended it; 126 if it cannot be run; 127 if it is not found;
1 if the lab fails; 64 for a usage error
`)
	return text.String()
}

// inLab starts a lab, and runs the command or waits.
func inLab(arguments []string) (code int, err error) {
	var s setting
	flags := s.flags()
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK, err
		}
		return exitUsage, usage("%v", err)
	}
	command := flags.Args()
	if before := len(arguments) - len(command) - 1; len(command) > 0 && (before < 0 || arguments[before] != "--") {
		return exitUsage, usage("put -- before the command %q", command[0])
	}
	options, err := s.options()
	if err != nil {
		return exitUsage, err
	}

	// From here on, a signal stops the lab in order.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	running, err := lab.Start(options)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	if running.Moved {
		fmt.Fprintln(os.Stderr, "proxmox-realm-lab: warning: the ports of the last run are in use; realms that were created then name another issuer")
	}
	end, err := startControl(running)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if len(command) == 1 && slices.Contains(shells, filepath.Base(command[0])) {
		fmt.Fprint(os.Stderr, greeting(running.ConfigFile == ""))
	}
	if len(command) > 0 {
		return runCommand(command, running.Environ(), signals)
	}
	for _, variable := range running.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Printf("export %s=%s\n", name, quote(value))
	}
	<-signals
	return exitOK, nil
}

// shells are the commands that somebody tries things in.
var shells = []string{"sh", "bash", "dash", "ksh", "zsh", "fish"}

// greeting names three commands to begin with.
func greeting(bare bool) string {
	if bare {
		return `A cluster that nobody prepared, beside an issuer that does not know it. Begin with:
    proxmox-realm init                       # asks; the answers are in:
    env | grep ^LAB_
    proxmox-realm-lab restart-issuer         # in a second shell with the same variables, when init waits for it
`
	}
	return `A Proxmox API beside an issuer. Begin with:
    proxmox-realm plan                       # what would change
    proxmox-realm apply                      # makes the realm and verifies it
    proxmox-realm-lab set authelia scopes=openid   # changes it as somebody else would: plan again
`
}

// options checks the flags and turns them into the lab's options.
func (s *setting) options() (lab.Options, error) {
	options := lab.Options{
		Dir:      s.state,
		Seed:     s.seed,
		PVE:      pve.Options{Version: s.pveVersion, Listen: s.listen, RoundTrip: s.roundTrip},
		Clusters: s.clusters,
		TOTP:     s.totp,
		Issuer:   issuer.Options{Listen: s.issuerListen, RoundTrip: s.roundTrip},
	}
	if _, about := lab.Seeds(); s.seed != "" && about[s.seed] == "" {
		return options, usage("unknown seed %q", s.seed)
	}
	if s.clusters < 1 || s.nodes < 1 || s.roundTrip < 0 {
		return options, usage("--clusters and --nodes take a number from 1, --round-trip a duration")
	}
	options.PVE.Nodes = make([]pve.Node, s.nodes)
	if s.product != "pve" {
		product := pbs.Products[s.product]
		if product == nil || s.clusters > 1 || s.nodes > 1 || s.totp {
			return options, usage("--product takes pve, pbs or pdm; --clusters, --nodes and --totp are for pve")
		}
		options.PBS = &pbs.Options{Product: product, Version: s.version, Listen: s.listen, RoundTrip: s.roundTrip}
		if s.delays {
			options.PBS.Delay401, options.PBS.Delay403, options.PBS.ACLCache = pbs.RealDelay401, pbs.RealDelay403, pbs.RealACLCache
		}
	}
	if s.delays {
		options.PVE.Delay401, options.PVE.NodeTimeout = pve.RealDelay401, pve.RealIssuerTimeout
	}
	if s.limits {
		options.Issuer.Limits = issuer.AutheliaLimits()
	}
	if s.log {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		options.PVE.Log, options.Issuer.Log = log, log
		if options.PBS != nil {
			options.PBS.Log = log
		}
	}
	if s.issuer != "" {
		if parsed, err := url.Parse(s.issuer); err != nil || parsed.Scheme != "https" || parsed.Host == "" {
			return options, usage("--issuer is not an https URL")
		}
		options.Outside = &lab.Outside{
			URL:         s.issuer,
			CAFile:      os.Getenv("LAB_ISSUER_CA_FILE"),
			ClientID:    os.Getenv("LAB_CLIENT_ID"),
			ClientKey:   os.Getenv("LAB_CLIENT_KEY"),
			RedirectURL: os.Getenv("LAB_REDIRECT_URL"),
			Username:    os.Getenv("LAB_USERNAME"),
			Password:    os.Getenv("LAB_PASSWORD"),

			AutheliaConfig: os.Getenv("LAB_AUTHELIA_CONFIG"),
		}
	}
	return options, nil
}

// runCommand runs a command with more environment, passes signals on to it, and returns its code.
func runCommand(command, environment []string, signals <-chan os.Signal) (int, error) {
	if self, err := os.Executable(); err == nil { // proxmox-realm was built beside it
		_ = os.Setenv("PATH", filepath.Dir(self)+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	child := exec.Command(command[0], command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.Env = append(os.Environ(), environment...)
	if err := child.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return exitNotFound, err
		}
		return exitNotRun, err
	}

	// A terminal sends its signals to the whole group, the command included.
	fromTerminal := term.IsTerminal(int(os.Stdin.Fd()))
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case got := <-signals:
			if fromTerminal && (got == os.Interrupt || got == syscall.SIGQUIT) {
				continue
			}
			_ = child.Process.Signal(got) // it may just have ended
		case err := <-ended:
			return exitCode(child, err)
		}
	}
}

func exitCode(child *exec.Cmd, err error) (int, error) {
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return exitFailed, err
	}
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal()), nil
	}
	return child.ProcessState.ExitCode(), nil
}
