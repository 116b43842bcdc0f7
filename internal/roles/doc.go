// Package roles builds a master, a storage node or a miner from its configuration and runs it. The command line and the
// development cluster both use it. It also has the operations on the data folder of a role that is stopped: recovery of
// the masters, export and import of a chain, and the backup of the log's keys.
//
// Opening a role acquires everything that may be refused (ports, folders, files) and fails with a clear error. Running
// it serves until its context ends or something fails. It stops in this order: HTTP drains, duties end, leadership is
// handed over, raft stops, stores close.
package roles
