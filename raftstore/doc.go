// Package raftstore replicates a [masterfsm.State] between the masters, with hashicorp/raft and raft-boltdb. It does
// not know HTTP or the leader's duties; package masternode does.
//
// DESIGN.md explains the data folder, the log, snapshots, connections, starts, membership, the watchdog and the stop
// order.
package raftstore
