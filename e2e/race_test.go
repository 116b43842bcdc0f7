//go:build race

package e2e

import "time"

// underRace: the processes are built with the race detector, as the test is.
const underRace = true

// raftTimeout is raft's: the race detector makes all slower.
const raftTimeout = time.Second
