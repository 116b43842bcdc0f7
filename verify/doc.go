// Package verify checks what a ChainStore log shows to the outside, and trusts nobody but the keys that its caller
// names.
//
//   - [Receipt] holds one receipt against a log's key: the payload, its leaf, the block, the tree, the signature.
//     Offline.
//   - [TlogProof] does the same for a proof in the form of C2SP tlog-proof.
//   - [Log] audits a running log over HTTP from its checkpoint and its leaves: every leaf, every seal's link and proof
//     of work, the whole tree,
//     and that the log only ever grew since the run before.
//   - [Export] checks a whole chain that stands in one file, as package export draws it. A checkpoint that a key of the
//     caller has signed must cover every block. What [ExportOptions] allows beyond that is reported.
//
// The rules of the chain are those of package chain, which the nodes themselves go by; there is no second set of them
// here.
//
// What does not fit is a [Finding], with a code that stays and words that may change. An error of these functions is
// something else: the check could not be brought to its end, because a server does not answer or the caller has stopped
// it. Nothing is known then but what the report says.
//
// What comes from a server or out of a file is held to be hostile: sizes are bounded before they are read, nothing is
// kept that grows with the log, and no input makes the package panic.
//
// The public Go API of ChainStore consists of the packages chain, wire, client and verify. All other packages may
// change in any release.
package verify
