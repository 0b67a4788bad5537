package config

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Shard is the part of the targets that one of several processes takes. The zero value takes all of them.
type Shard struct{ Index, Count int }

// maxShards bounds the number of shards: the shard of a target takes as many hashes to find.
const maxShards = 1000

// jobIndex is the variable in which Kubernetes gives the pods of an Indexed Job their index.
const jobIndex = "JOB_COMPLETION_INDEX"

// String returns INDEX/COUNT.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Holds reports whether a target belongs to the shard. It is rendezvous hashing: a target belongs to the shard whose hash
// with the target's name is the greatest. One more shard takes its targets from all others and moves no others.
func (s Shard) Holds(target string) bool {
	if s.Count <= 1 {
		return true
	}
	score := func(shard int) [sha256.Size]byte { return sha256.Sum256([]byte(strconv.Itoa(shard) + " " + target)) }
	own := score(s.Index)
	for shard := range s.Count {
		if other := score(shard); bytes.Compare(other[:], own[:]) > 0 {
			return false
		}
	}
	return true
}

// ChosenShard returns the shard that a value of --shard or, if that is empty, the environment of a Job names. The result is
// false if they name none. It tells apart what several processes leave behind, even those without a usable configuration.
func ChosenShard(flag string) (Shard, bool) {
	index, count, _ := strings.Cut(flag, "/")
	if flag == "" {
		index, count = os.Getenv(jobIndex), os.Getenv(envShards)
	}
	return parseShard(index, count)
}

// chooseShard notes the shard that the run is to take. -t in place of --shard overrides the environment of a Job, so that a
// person can try one target in its pod.
func (l *loader) chooseShard() {
	at := Position{Name: "--shard"}
	if l.Shard == "" {
		if _, set := os.LookupEnv(envShards); !set || !l.Sharded || len(l.Targets) > 0 {
			return
		}
		at.Name = jobIndex + " and " + envShards
	}
	s, ok := ChosenShard(l.Shard)
	switch {
	case len(l.Targets) > 0:
		l.problems.addf(at, "", "cannot be combined with -t: keep one of them")
	case !ok:
		l.problems.addf(at, "", "must be an index from 0 and a greater number of shards (at most %d), such as 0/4", maxShards)
	default:
		l.config.Shard = s
	}
}

func parseShard(index, count string) (Shard, bool) {
	i, errIndex := strconv.ParseUint(index, 10, 16) // takes no sign
	n, errCount := strconv.ParseUint(count, 10, 16)
	return Shard{int(i), int(n)}, errIndex == nil && errCount == nil && i < n && n <= maxShards
}
