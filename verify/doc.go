// Package verify checks from outside what a ChainStore log shows. It trusts only the keys that its caller names.
//
//   - [Receipt] checks one receipt offline against a log's key: the payload, its leaf, the block, the tree, the
//     signature.
//   - [TlogProof] does the same for a proof in the form of C2SP tlog-proof.
//   - [Log] audits a running log over HTTP from its checkpoint and its leaves: every leaf, every seal's link and
//     proof of work, the whole tree, and that the log has only grown since the last run.
//   - [Export] checks a whole chain in one file of package export. A checkpoint that one of the caller's keys has
//     signed must cover every block. What [ExportOptions] allows beyond that is reported.
//
// The rules of the chain are those of package chain, which the nodes use too. There is no second set of them here.
//
// A mismatch is a [Finding], with a stable code and a text that may change. An error of these functions means that the
// check could not be completed, because a server does not answer or the caller has cancelled it. Then only the report
// says what is known.
//
// Input from servers and files is untrusted. Sizes are bounded before they are read, no memory grows with the log, and
// no input makes the package panic.
//
// The public Go API of ChainStore consists of the packages chain, wire, client and verify. All other packages may
// change in any release.
package verify
