// Package leader does the duties of the leader of a master group: it cuts and mines blocks, stores them on storage
// nodes, has the nodes check and repair their chains, keeps the group's members up to date, and has witnesses cosign
// the checkpoint.
//
// What should be in progress is decided by a pure function, plan (plan.go; the other plan_*.go files are parts of it).
// A loop (loop.go) starts and cancels actions accordingly. Each kind of action has one function that carries it out:
// execute.go, check.go, repair.go, cosign.go, keys.go, level.go. fences.go decides whether this leader may acknowledge
// anything. propose.go commits commands for the rest of the master, and status.go reports what the leader knows.
//
// DESIGN.md explains why it is built in this way.
package leader
