//go:build race

package e2e

import "time"

// underRace reports whether the test and the processes are built with the race detector.
const underRace = true

// slower divides the load, and the amount of it that a test waits for.
const slower = 2

// raftTimeout is the timeout of raft. It is longer than the default, because the race detector slows everything down.
const raftTimeout = time.Second
