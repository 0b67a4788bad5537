#!/bin/sh
# Writes what packages hold besides the program into DIR: manual pages and completions (docs/), and compressed pages and the
# changelog (package/). TIME is that of the commit, in seconds since 1970; nothing else varies.
#   docs.sh DIR VERSION TIME
set -e

dir=$1
version=$2
rm -rf "$dir/docs" "$dir/package"
mkdir -p "$dir/package"
SOURCE_DATE_EPOCH=$3 CGO_ENABLED=0 go run -trimpath -buildvcs=false ./internal/cli/docs "$dir/docs" "$version"
cp "$dir"/docs/man/* "$dir/package/"
cp CHANGELOG.md "$dir/package/changelog"
gzip -9n "$dir"/package/*
