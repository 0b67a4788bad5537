// Command build writes the packages of this tree for this machine's architecture into a folder. `make package` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"proxmox-realm/deploy/packaging"
)

func main() {
	root := flag.String("root", "..", "the folder of .goreleaser.yaml")
	version := flag.String("version", "0.0.1", "the version of the packages")
	seconds := flag.Int64("time", 0, "the time of the files in the packages, in seconds since 1970")
	dir := flag.String("o", ".", "the folder of the packages")
	flag.Parse()
	paths, err := packaging.Build(context.Background(), packaging.Options{
		Root: *root, Version: *version, Time: time.Unix(*seconds, 0), Formats: flag.Args(),
	}, *dir)
	for _, path := range paths {
		fmt.Fprintln(os.Stdout, path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
