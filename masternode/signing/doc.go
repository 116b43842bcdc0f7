// Package signing has what signs the group's transparency log: the log's private keys and their sealed form in the
// table ([Key], [Sealer]), signed checkpoints ([CheckpointSigner]), and the witnesses whose cosignatures are added to
// them ([Witness]).
package signing
