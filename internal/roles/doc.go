// Package roles wires one role of a cluster from its configuration and runs it: a master, a storage node or a miner. The command
// line and the development cluster start roles through it, so that they are the same everywhere.
//
// Opening a role takes everything that can be refused (ports, folders, files) and fails with a clear error; running it serves
// until its context ends or something fails. Stop order: HTTP drains, duties end, leadership is handed over, raft stops,
// stores close.
package roles
