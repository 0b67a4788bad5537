// Command proxmox-realm-lab runs the access API of a Proxmox product and an OpenID provider
// on loopback, and a command beside them. The command gets the environment that
// proxmox-realm needs to work against them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// The exit codes of the lab itself; otherwise it exits with the command's.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 64 // EX_USAGE of sysexits.h
	exitNotRun   = 126
	exitNotFound = 127
	exitSignal   = 128 // and the number of the signal
)

// errUsage marks errors of the command line.
var errUsage = errors.New("usage")

// subcommands use the lab's Proxmox API as another administrator would, and its issuer as the administrator of Authelia.
var subcommands = map[string]func(arguments []string, stdout io.Writer) error{
	"show":   show,
	"set":    set,
	"remove": remove,

	"restart-issuer": restartIssuer,
	"login":          logIn,
}

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	code := exitOK
	var err error
	if len(arguments) > 0 && subcommands[arguments[0]] != nil {
		err = subcommands[arguments[0]](arguments[1:], os.Stdout)
	} else {
		code, err = inLab(arguments)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help())
		return exitOK
	case err != nil:
		fmt.Fprintf(os.Stderr, "proxmox-realm-lab: error: %v\n", err)
		if errors.Is(err, errUsage) {
			return exitUsage
		}
		return max(code, exitFailed)
	}
	return code
}

// usage returns an error about the command line.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s; see proxmox-realm-lab --help", errUsage, fmt.Sprintf(format, args...))
}

// quiet returns a flag set that prints nothing: main prints errors and help.
func quiet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parse parses flags before and after other arguments, and returns the other arguments.
func parse(flags *flag.FlagSet, arguments []string) ([]string, error) {
	var rest []string
	for {
		if err := flags.Parse(arguments); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usage("%v", err)
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		rest, arguments = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
}

// quote quotes text as one word of a shell.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
