// Package bench measures a cluster of seven real processes, and beside it the ceilings: what a bare gin handler, a bare
// three-node raft and, where it is installed, a three-node etcd reach on the same machine, in the same run, under the same
// load. Numbers of two machines cannot be compared; the ratios can.
//
// The load generator (load.go, http.go, grpc.go) is a number of clients that each have one kept TCP connection and send the
// next request when the last is answered: a closed loop. It writes prepared bytes and reads no more of an answer than it must.
// net/http's client and etcd's Go client would take more of a small machine's cores than the servers that are measured, and
// would so measure themselves. Every answer's status is checked all the same, and every payload that is read.
//
// A run counts the answers that came within its time. A scenario is one warm-up and several runs without a pause between them,
// so that what a system only puts off (blocks to be mined and stored) falls into the next run and shows.
//
// Checks and repairs of storage nodes are measured without a cluster (integrity.go), a whole chain a run: a check through the same
// orders as a leader's, on a node in this process, beside the bare hash of as many bytes; a repair between two processes, whose master
// this process is (storages.go), beside a bare HTTP copy of the same files. What checks cost the users is measured with the cluster
// (checked.go): the same load with and without them.
package suite
