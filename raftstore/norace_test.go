//go:build !race

package raftstore

import "time"

// raftTimeout is raft's timeout in tests.
const raftTimeout = 200 * time.Millisecond

// underRace is whether the test is built with the race detector.
const underRace = false
