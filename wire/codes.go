package wire

import (
	"slices"
	"strings"
)

// Codes of causes: why a storage node is in its state, why a check is due, and what an event is about.
const (
	CodeText = "text" // a sentence that was committed before protocol level 2

	CodeDamaged       = "damaged"
	CodeUnchecked     = "unchecked"
	CodeBehind        = "behind"
	CodeLeftBehind    = "left-behind"
	CodeUnknownHeight = "unknown-height"
	CodeShortChain    = "short-chain"
	CodeOtherChain    = "other-chain"
	CodeForeignChain  = "foreign-chain"
	CodeAhead         = "ahead"

	CodeRequested       = "requested"
	CodeUncleanStop     = "unclean-stop"
	CodeWrongAnswer     = "wrong-answer"
	CodeFaultySender    = "faulty-sender"
	CodeCheckCutOff     = "check-cut-off"
	CodeCheckUnfinished = "check-unfinished"
	CodeCheckAborted    = "check-aborted"

	CodeBytesReplaced  = "bytes-replaced"
	CodeRepairFailed   = "repair-failed"
	CodeSenderGone     = "sender-gone"
	CodeSenderFailed   = "sender-failed"
	CodeTransferFailed = "transfer-failed"
	CodeSenderSilent   = "sender-silent"
	CodeReceiverSilent = "receiver-silent"
	CodeStalled        = "stalled"

	CodeTilesRewritten = "tiles-rewritten"
	CodeBlocksLost     = "blocks-lost"
	CodeBlocksFound    = "blocks-found"
	CodeLossConfirmed  = "loss-confirmed"
	CodeRemoved        = "removed"
)

// Codes of notices: what an operator should know of the cluster.
const (
	CodeLocalView            = "local-view"
	CodeUnconfirmed          = "unconfirmed"
	CodeNoMiner              = "no-miner"
	CodeTooFewStorages       = "too-few-storages"
	CodeBacklogFull          = "backlog-full"
	CodeStorageInvalid       = "storage-invalid"
	CodeChecksEndEarly       = "checks-end-early"
	CodeLossUnconfirmed      = "loss-unconfirmed"
	CodeLevelWaits           = "level-waits"
	CodeLaterEpoch           = "later-epoch"
	CodeLaterEpochSuspended  = "later-epoch-suspended"
	CodeWitnessDown          = "witness-down"
	CodeTooFewWitnesses      = "too-few-witnesses"
	CodeLogKeyWaits          = "log-key-waits"
	CodeNoCheckpoint         = "no-checkpoint"
	CodeCheckpointWaits      = "checkpoint-waits"
	CodeOriginIgnored        = "origin-ignored"
	CodeCheckpointKeyForeign = "checkpoint-key-foreign"
	CodeCheckpointKeyRetired = "checkpoint-key-retired"
	CodeCheckpointKeyWaits   = "checkpoint-key-waits"
	CodeMasterNotice         = "master-notice"
)

// Codes of the details of findings: where a block is damaged, and how.
const (
	CodePlaceUnknown     = "place-unknown"
	CodeFileMissing      = "file-missing"
	CodeFileEnds         = "file-ends"
	CodeFileUnreadable   = "file-unreadable"
	CodeHeaderDamaged    = "header-damaged"
	CodeHeaderRestored   = "header-restored"
	CodeFrameLength      = "frame-length"
	CodeFrameChecksum    = "frame-checksum"
	CodeBlockForm        = "block-form"
	CodeBlockNumber      = "block-number"
	CodeBlockLink        = "block-link"
	CodeBlockFirst       = "block-first"
	CodeBlockCount       = "block-count"
	CodeBlockTime        = "block-time"
	CodeBlockRoot        = "block-root"
	CodeBlockWork        = "block-work"
	CodeBlockUnconnected = "block-unconnected"
	CodeLeavesMissing    = "leaves-missing"
	CodeRecordsDiffer    = "records-differ"
	CodeMinedAgain       = "mined-again"
	CodeNotFollowed      = "not-followed"
	CodeTwoFaults        = "two-faults"
	CodeForkUnknown      = "fork-unknown"
	CodeMisplaced        = "misplaced"
	CodeMovedAside       = "moved-aside"
)

// Code is a code of messages.
type Code struct {
	Name string
	// English is its text. {name} stands for an argument, {name|one|other} for the word that fits a number. Each
	// argument of the code occurs in it.
	English string
}

// Codes are the codes that messages may have. Newer versions may add codes and arguments.
var Codes = []Code{
	{Name: CodeText, English: "{detail}"},

	{Name: CodeDamaged, English: "damaged: {blocks|block|blocks} {ranges}"},
	{Name: CodeUnchecked, English: "blocks from {block} on could not be checked"},
	{Name: CodeBehind, English: "behind: it has {blocks} {blocks|block|blocks}, the masters hold them from {from} on"},
	{Name: CodeLeftBehind, English: "behind: the masters no longer hold the blocks that it lacks"},
	{Name: CodeUnknownHeight, English: "behind: height {height} is older than the table remembers"},
	{Name: CodeShortChain, English: "short chain: it has {blocks} {blocks|block|blocks} and had acknowledged {height}"},
	{Name: CodeOtherChain, English: "another chain: block {block} has another hash"},
	{Name: CodeForeignChain, English: "its chain does not end as the chain of the group does"},
	{Name: CodeAhead, English: "alarm: it has {blocks} {blocks|block|blocks}, the masters know of {height}"},

	{Name: CodeRequested, English: "a check was requested"},
	{Name: CodeUncleanStop, English: "its last stop was not a clean one"},
	{Name: CodeWrongAnswer, English: "it answered wrong: {detail}"},
	{Name: CodeFaultySender, English: "it failed as a sender: {detail}"},
	{Name: CodeCheckCutOff, English: "its check was cut off"},
	{Name: CodeCheckUnfinished, English: "its check did not end"},
	{Name: CodeCheckAborted,
		English: "its check ended early, after {blocks} of {height} {height|block|blocks}: {detail}"},

	{Name: CodeBytesReplaced, English: "{detail}"},
	{Name: CodeRepairFailed, English: "ended early: {cause}"},
	{Name: CodeSenderGone, English: "its sender is gone"},
	{Name: CodeSenderFailed, English: "the sender: {detail}"},
	{Name: CodeTransferFailed, English: "the transfer: {detail}"},
	{Name: CodeSenderSilent, English: "the sender does not answer: {detail}"},
	{Name: CodeReceiverSilent, English: "the receiver does not answer"},
	{Name: CodeStalled, English: "nothing was received for {seconds} {seconds|second|seconds}"},

	{Name: CodeTilesRewritten,
		English: "{count} {count|hash|hashes} of the tree {count|was|were} wrong on disk and {count|was|were} " +
			"computed again from the blocks"},
	{Name: CodeBlocksLost, English: "no storage node has a good copy of {blocks|block|blocks} {ranges}"},
	{Name: CodeBlocksFound, English: "a storage node may have a good copy again of {blocks|block|blocks} {ranges}"},
	{Name: CodeLossConfirmed, English: "a person confirmed that block {block} is lost"},
	{Name: CodeRemoved, English: "removed from the cluster"},

	{Name: CodeLocalView,
		English: "this master cannot reach the leader: which nodes are live and what is under way is not known, " +
			"and the table may be behind"},
	{Name: CodeUnconfirmed, English: "no majority of the masters confirms this leader: the table may be behind"},
	{Name: CodeNoMiner,
		English: "no miner: appends are taken until the backlog is full, blocks wait for their proof of work"},
	{Name: CodeTooFewStorages,
		English: "{count} of {needed} storage nodes that a block needs are there: the masters keep the records " +
			"until more are"},
	{Name: CodeBacklogFull, English: "backlog full: appends are refused until blocks are stored"},
	{Name: CodeStorageInvalid, English: "storage node {node} is invalid: {cause}"},
	{Name: CodeChecksEndEarly,
		English: "storage node {node}: its checks end early: the last {count} did, the newest after {blocks} of " +
			"{height} {height|block|blocks}: {detail}"},
	{Name: CodeLossUnconfirmed,
		English: "no storage node has a good copy of {blocks|block|blocks} {ranges}: bring back a node or a disk " +
			"that has one, or confirm the loss (chainstore integrity confirm-lost N)"},
	{Name: CodeLevelWaits,
		English: "protocol level {level} of {next}: the group has the features of level {level} until all masters " +
			"know level {next}; upgrade, start or remove {nodes}"},
	{Name: CodeLaterEpoch,
		English: "worker {node} answers with epoch {epoch}, this group is at epoch {ours}: its folder is of another " +
			"cluster or damaged; take it out"},
	{Name: CodeLaterEpochSuspended,
		English: "no append is acknowledged: worker {node} answers with epoch {epoch}, this group is at epoch " +
			"{ours}, and too few storage nodes answer to tell whether the group was recovered; " +
			"bring storage nodes back"},
	{Name: CodeWitnessDown, English: "witness {name} at {url} does not cosign ({state}): {detail}"},
	{Name: CodeTooFewWitnesses,
		English: "{count} of {needed} witnesses that a checkpoint needs cosign: the checkpoint that is shown stays " +
			"until more do"},
	{Name: CodeLogKeyWaits,
		English: "the log gets its first key once all masters have announced that they know log keys: start {nodes} " +
			"with this version, or remove them"},
	{Name: CodeNoCheckpoint, English: "{detail}"},
	{Name: CodeCheckpointWaits,
		English: "no checkpoint can be shown: the group was recovered, and may have shown one of {needed} blocks " +
			"before; the newest that may be shown has {blocks}: it waits until enough storage nodes, and witnesses " +
			"where they are asked for, have the chain again"},
	{Name: CodeOriginIgnored, English: "--origin {asked} changes nothing: the origin of the log is {origin}"},
	{Name: CodeCheckpointKeyForeign,
		English: "the key of --checkpoint-key has the origin {asked} and is not used: the origin of the log " +
			"is {origin}"},
	{Name: CodeCheckpointKeyRetired, English: "the key of --checkpoint-key, {key}, is retired and is not used again"},
	{Name: CodeCheckpointKeyWaits,
		English: "the key of --checkpoint-key is not in the log yet: it is added when this master leads " +
			"(chainstore master transfer)"},
	{Name: CodeMasterNotice, English: "master {node}: {cause}"},

	{Name: CodePlaceUnknown, English: "the block is missing, and its place in {file} is not known"},
	{Name: CodeFileMissing, English: "{file} is missing"},
	{Name: CodeFileEnds,
		English: "{file} ends after {bytes} of {size} bytes of the frame that begins at offset {offset}"},
	{Name: CodeFileUnreadable, English: "{file} cannot be read at offset {offset}: {detail}"},
	{Name: CodeHeaderDamaged, English: "the header of {file} is damaged"},
	{Name: CodeHeaderRestored, English: "the header of {file} was damaged and was written again"},
	{Name: CodeFrameLength,
		English: "{file}, frame at offset {offset}: it names a length of {bytes} bytes, not {size}"},
	{Name: CodeFrameChecksum, English: "{file}, frame at offset {offset}: its checksum is wrong"},
	{Name: CodeBlockForm, English: "{file}, frame at offset {offset}: its bytes are not a block: {detail}"},
	{Name: CodeBlockNumber, English: "{file}, frame at offset {offset}: the block has another number"},
	{Name: CodeBlockLink,
		English: "{file}, frame at offset {offset}: the block names another one as the one before it"},
	{Name: CodeBlockFirst, English: "{file}, frame at offset {offset}: the index of its first leaf is wrong"},
	{Name: CodeBlockCount, English: "{file}, frame at offset {offset}: the number of records is wrong"},
	{Name: CodeBlockTime, English: "{file}, frame at offset {offset}: the times of block and records are out of order"},
	{Name: CodeBlockRoot, English: "{file}, frame at offset {offset}: the records do not hash to its root"},
	{Name: CodeBlockWork, English: "{file}, frame at offset {offset}: the hash has too few leading zero bits"},
	{Name: CodeBlockUnconnected,
		English: "{file}, frame at offset {offset}: the tree between the blocks before and this one is not known"},
	{Name: CodeLeavesMissing, English: "the stored leaf hashes cannot tell which record differs: {detail}"},
	{Name: CodeRecordsDiffer,
		English: "{file}, frame at offset {offset}: {count} {count|record does|records do} not match {count|its leaf|" +
			"their leaves}: {records}; the first begins at offset {at} of the file"},
	{Name: CodeMinedAgain,
		English: "{file}, frame at offset {offset}: the block was changed and mined again: block {block} follows " +
			"another one"},
	{Name: CodeNotFollowed,
		English: "block {block} does not follow from it, and block {next} follows from that"},
	{Name: CodeTwoFaults, English: "{cause}; {more}"},
	{Name: CodeForkUnknown,
		English: "its chain is consistent and another one; where it begins could not be found: {detail}"},
	{Name: CodeMisplaced, English: "{path}: a {found} stands in the place of a {needed}"},
	{Name: CodeMovedAside, English: "{path}: a {found} stood in the place of a {needed}, and was moved to {moved}"},
}

// Args are the names of the arguments, in the order of the text.
func (c Code) Args() (names []string) {
	for _, hole := range strings.Split(c.English, "{")[1:] {
		if name := hole[:strings.IndexAny(hole, "|}")]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func codeOf(name string) (Code, bool) {
	i := slices.IndexFunc(Codes, func(c Code) bool { return c.Name == name })
	if i < 0 {
		return Code{}, false
	}
	return Codes[i], true
}
