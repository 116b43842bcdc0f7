//go:build race

package raftstore

import "time"

// raftTimeout is raft's timeout in tests: the race detector makes everything slower.
const raftTimeout = 900 * time.Millisecond

// underRace is whether the test is built with the race detector.
const underRace = true
