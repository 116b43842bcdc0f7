// Package workerapi serves storage nodes and miners over HTTP.
//
// A master authenticates with the worker's master token. Every order carries the epoch and term of its leader, and the
// fence refuses an order of a deposed leader (orders.go). A worker that the masters have refused serves nothing but
// its health. A recovery of the masters reads a storage node's chain with the cluster token, and only while no leader
// gives orders (leadersilence.go): a live master would ask for a project's token instead.
package workerapi
