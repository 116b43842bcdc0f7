// Package transport is raft's stream layer: the TCP connections between the masters of a group, and the handshake that
// opens each of them.
//
// # Addresses
//
// Raft's own messages do not name their receiver, and a voter with an empty configuration grants any vote. So raft's
// server address is "memberid@host:port" ([ServerAddress]), and the handshake names the group, the caller and the
// member that is meant. A wiped disk at an old address is another member, and is refused. A master that belongs to no
// group accepts no connection, so it can neither vote nor follow a leader.
//
// # Handshake
//
// Both sides prove that they have the cluster token, by HMACs over the transcript ([Key]). From protocol level 1 on
// they also exchange their newest starts, by which an older copy of a data folder is recognised ([Starts]).
//
// # Dialling
//
// A dial to a member that does not answer is tried again until raft's time for the call is over, instead of failing at
// once: raft waits up to ten seconds before it replicates again to a follower whose calls failed quickly.
package transport
