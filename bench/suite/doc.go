// Package suite measures a cluster of seven real processes and, on the same machine, in the same run and under the
// same load, its ceilings: a bare gin handler, a bare group of three raft members and, if they are installed, three
// etcd members and an immudb server. Rates of two machines cannot be compared. The ratios can.
//
// The load generator (load.go, httpclient.go) is a number of clients. Each has one kept TCP connection and sends the
// next request when the last one is answered: a closed loop. It writes prepared bytes and reads no more of a response
// than it must. The client of net/http would take more of a small machine's cores than the servers that are measured.
// etcd is driven by its own client, which does, and immudb by a small gRPC client (package immudb). Every status is
// checked, and every payload that is read.
//
// Each run measures the processor time, user and system, of every process under test and divides it by the records that
// were acknowledged or read (meter.go). On a busy machine this varies less than a rate. targets.go compares the medians
// with the project's targets.
//
// A run counts the responses that arrived within its time. A scenario is one warm-up and several runs without a pause
// in between, so that work which a system only postpones (blocks to mine and to store) falls into the next run.
//
// Checks and repairs of storage nodes are measured without a cluster (checksrepairs.go), a whole chain per run. A check
// runs on a node in this process, by the same orders as a leader's, and next to it the bare hash of as many bytes. A
// repair runs between two processes whose master is this process (storagenodes.go), and next to it a bare HTTP copy of
// the same files. What checks cost the users is measured with the cluster (duringchecks.go): the same load with and
// without them. What TLS costs is measured with two clusters, run by run in turn (tls.go).
package suite
