//go:build race

package e2e

import "time"

// underRace: the processes are built with the race detector, as the test is.
const underRace = true

// slower is by how much the load is thinned out, and how much less of it a test waits for.
const slower = 2

// raftTimeout is raft's: the race detector makes all slower.
const raftTimeout = time.Second
