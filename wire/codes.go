package wire

import (
	"slices"
	"strings"
)

// Code is a code of messages.
type Code struct {
	Name string
	// English is its text. {name} stands for an argument, {name|one|other} for the word that fits a number. Each
	// argument of the code occurs in it.
	English string
}

// Codes are the codes that messages may have, in the order of the definitions below. Newer versions may add codes and
// arguments.
var Codes []Code

// code adds a code to the table and returns its name.
func code(name, english string) string {
	Codes = append(Codes, Code{name, english})
	return name
}

// Codes of causes: why a storage node is in its state, why a check is due, and what an event is about.
var (
	// CodeText: a sentence that was committed before protocol level 2.
	CodeText = code("text", "{detail}")

	CodeDamaged   = code("damaged", "damaged: {blocks|block|blocks} {ranges}")
	CodeUnchecked = code("unchecked", "blocks from {block} on could not be checked")
	CodeBehind    = code("behind",
		"behind: it has {blocks} {blocks|block|blocks}, the masters hold them from {from} on")
	CodeLeftBehind    = code("left-behind", "behind: the masters no longer hold the blocks that it lacks")
	CodeUnknownHeight = code("unknown-height", "behind: height {height} is older than the table remembers")
	CodeShortChain    = code("short-chain",
		"short chain: it has {blocks} {blocks|block|blocks} and had acknowledged {height}")
	CodeOtherChain   = code("other-chain", "another chain: block {block} has another hash")
	CodeForeignChain = code("foreign-chain", "its chain does not end as the chain of the group does")
	CodeAhead        = code("ahead", "alarm: it has {blocks} {blocks|block|blocks}, the masters know of {height}")

	CodeRequested       = code("requested", "a check was requested")
	CodeUncleanStop     = code("unclean-stop", "its last stop was not a clean one")
	CodeWrongAnswer     = code("wrong-answer", "it answered wrong: {detail}")
	CodeFaultySender    = code("faulty-sender", "it failed as a sender: {detail}")
	CodeCheckCutOff     = code("check-cut-off", "its check was cut off")
	CodeCheckUnfinished = code("check-unfinished", "its check did not end")
	CodeCheckAborted    = code("check-aborted",
		"its check ended early, after {blocks} of {height} {height|block|blocks}: {detail}")
	CodeCheckOverdue = code("check-overdue",
		"its check has not ended after {seconds} {seconds|second|seconds}, with {blocks} of {height} "+
			"{height|block|blocks} checked")

	CodeBytesReplaced  = code("bytes-replaced", "{detail}")
	CodeRepairFailed   = code("repair-failed", "ended early: {cause}")
	CodeSenderGone     = code("sender-gone", "its sender is gone")
	CodeSenderFailed   = code("sender-failed", "the sender: {detail}")
	CodeTransferFailed = code("transfer-failed", "the transfer: {detail}")
	CodeSenderSilent   = code("sender-silent", "the sender does not answer: {detail}")
	CodeReceiverSilent = code("receiver-silent", "the receiver does not answer")
	CodeStalled        = code("stalled", "nothing was received for {seconds} {seconds|second|seconds}")
	CodeOthersWait     = code("others-wait",
		"it took {seconds} {seconds|second|seconds}, and other storage nodes wait for a repair or a check; it "+
			"continues after them")

	CodeTilesRewritten = code("tiles-rewritten",
		"{count} {count|hash|hashes} of the tree {count|was|were} wrong on disk and {count|was|were} computed "+
			"again from the blocks")
	CodeBlocksLost  = code("blocks-lost", "no storage node has a good copy of {blocks|block|blocks} {ranges}")
	CodeBlocksFound = code("blocks-found",
		"a storage node may have a good copy again of {blocks|block|blocks} {ranges}")
	CodeTimeSet = code("time-set",
		"a person set the time of the group {seconds} {seconds|second|seconds} forward")
	CodeLossConfirmed  = code("loss-confirmed", "a person confirmed that block {block} is lost")
	CodeSettingChanged = code("setting-changed",
		"a person changed the setting {setting} from {from} to {to}")
	CodeSyncFailed        = code("sync-failed", "a sync of its data folder failed: {detail}")
	CodeSyncFailedRestart = code("sync-failed-restart",
		"it was started again after a failed sync, on a machine that was restarted")
	CodeSyncFailedOverride = code("sync-failed-override",
		"it was started again after a failed sync, with --after-failed-sync")
	CodeRemoved = code("removed", "removed from the cluster")
)

// Codes of notices: what an operator should know of the cluster.
var (
	CodeLocalView = code("local-view",
		"this master cannot reach the leader: which nodes are live and what is under way is not known, and the "+
			"table may be behind")
	CodeUnconfirmed = code("unconfirmed", "no majority of the masters confirms this leader: the table may be behind")
	CodeNoMiner     = code("no-miner",
		"no miner: appends are taken until the backlog is full, blocks wait for their proof of work")
	CodeWorkersWait = code("workers-wait",
		"{nodes} wait for approval and get no work: compare each id with that in the log of the node, then approve or "+
			"refuse it (chainstore storage approve ID, chainstore miner approve ID)")
	CodeTooFewStorages = code("too-few-storages",
		"{count} of the {needed} storage nodes that a block needs are available: the masters keep the records until "+
			"more are")
	CodeBacklogFull = code("backlog-full", "backlog full: appends are refused until blocks are stored")
	CodeDiskLow     = code("disk-low", "{node}: {mib} MiB are free on the disk of its data folder: make room")
	CodeDiskFull    = code("disk-full",
		"{node}: its disk is full, {mib} MiB are free: it takes no records or blocks until there is room")
	CodeMastersFull = code("masters-full",
		"appends are refused until there is room on the disks of the masters {nodes}")
	CodeAtRestPlain = code("at-rest-plain",
		"{node} has at-rest keys, and {count} {count|file|files} of its data folder {count|is|are} in clear "+
			"(chainstore at-rest status): restart it once its disk has room")
	CodeCertificateEnds = code("certificate-ends",
		"{node}: its certificate ends in {hours} {hours|hour|hours}: renew it")
	CodeCertificateEnded = code("certificate-ended",
		"{node}: its certificate has ended: users refuse it, and nodes accept it only for their --tls-grace: renew it")
	CodeCertificateFiles = code("certificate-files",
		"{node}: the new files of its certificate are not used, the ones before them still are: {detail}")
	CodeCertificateGrace = code("certificate-grace",
		"{node} accepts {identity} for {hours} more {hours|hour|hours} although its certificate is out of its time: "+
			"renew that, or set the clocks of both")
	CodeCertificateRefused = code("certificate-refused",
		"{node} refuses {identity}, whose certificate is out of its time, since the grace is over: renew that, or set "+
			"the clocks of both")
	CodeSecretFile = code("secret-file",
		"{node}: the new file of its secret {secret} is not used, the values before it still are: {detail}")
	CodeSecretOld = code("secret-old",
		"{nodes} still prove the old value of the secret {secret}: change their files, then end the rotation")
	CodeSecretRefused = code("secret-refused",
		"{node} proves a value of the secret {secret} that {nodes} do not accept: give them the file of that node")
	CodeSealOld = code("seal-old",
		"keys of the log are sealed under the old value of the secret seal: the leader seals them again once all "+
			"masters accept the present value")
	CodeTLSPlain = code("tls-plain",
		"the step of TLS is {step}: nodes take plain text until it is require (chainstore tls status)")
	CodeTLSNotUsed = code("tls-not-used",
		"{node} has certificates and was asked in plain text although the step of TLS is prefer: if this stays, "+
			"something on the way to it may prevent TLS")
	CodeStorageSilent = code("storage-silent", "storage node {node} does not answer: start it, or check the network")
	CodeMasterSilent  = code("master-silent", "master {node} does not answer: start it, or check the network")
	CodeStaleFolder   = code("stale-folder",
		"node {node} is refused: its data folder is an older copy, or another process has a copy of it: its log and "+
			"its /readyz say how it joins again")
	CodeOtherNodeAtURL = code("other-node-at-url",
		"another node answers at {url}, the URL of node {node}, or one with another token: start {node} there, or "+
			"remove it from the cluster")
	CodeStorageInvalid = code("storage-invalid", "storage node {node} is invalid: {cause}")
	CodeChecksEndEarly = code("checks-end-early",
		"storage node {node}: its checks end early: the last {count} did, the newest after {blocks} of {height} "+
			"{height|block|blocks}: {detail}")
	CodeLossUnconfirmed = code("loss-unconfirmed",
		"no storage node has a good copy of {blocks|block|blocks} {ranges}: bring back a node or a disk that has "+
			"one, or confirm the loss (chainstore integrity confirm-lost N)")
	CodeLevelWaits = code("level-waits",
		"protocol level {level} of {next}: the group has the features of level {level} until {nodes} know "+
			"level {next}; upgrade, start or remove them")
	CodeOlderMaster = code("older-master",
		"master {node} runs an older version, which knows protocol level {level}, and not {next}: upgrade it")
	CodeClockAhead = code("clock-ahead",
		"the clock of master {node} is {seconds} {seconds|second|seconds} ahead of the clocks of the other masters: "+
			"set it")
	CodeClockBehind = code("clock-behind",
		"the clock of master {node} is {seconds} {seconds|second|seconds} behind the clocks of the other masters: "+
			"set it")
	CodeClocksDisagree = code("clocks-disagree",
		"no majority of the clocks of {count} masters agrees: set them")
	CodeTimeAhead = code("time-ahead",
		"the time that records get is {seconds} {seconds|second|seconds} ahead of the clock of the leader: "+
			"records keep it until that clock reaches it")
	CodeTimeBehind = code("time-behind",
		"the time that records get is {seconds} {seconds|second|seconds} behind the clock of the leader, and "+
			"the clocks of the masters do not confirm that clock: check it, then run chainstore master set-time now")
	CodeLaterEpoch = code("later-epoch",
		"worker {node} answers with epoch {epoch}, this group is at epoch {ours}: its folder is of another cluster "+
			"or damaged; take it out")
	CodeLaterEpochSuspended = code("later-epoch-suspended",
		"no append is acknowledged: worker {node} answers with epoch {epoch}, this group is at epoch {ours}, and "+
			"too few storage nodes answer to tell whether the group was recovered; bring storage nodes back")
	CodeWitnessDown     = code("witness-down", "witness {name} at {url} does not cosign ({state}): {detail}")
	CodeTooFewWitnesses = code("too-few-witnesses",
		"{count} of {needed} witnesses that a checkpoint needs cosign: the checkpoint that is shown stays until "+
			"more do")
	CodeLogKeyWaits = code("log-key-waits",
		"the log gets its first key once all masters have announced that they know log keys: start {nodes} with "+
			"this version, or remove them")
	CodeNoCheckpoint    = code("no-checkpoint", "{detail}")
	CodeCheckpointWaits = code("checkpoint-waits",
		"no checkpoint can be shown: the group was recovered, and may have shown one of {needed} blocks before; "+
			"the newest that may be shown has {blocks}: it waits until enough storage nodes, and witnesses where they "+
			"are asked for, have the chain again")
	CodeOriginIgnored = code("origin-ignored",
		"--origin {asked} changes nothing: the origin of the log is {origin}")
	CodeCheckpointKeyForeign = code("checkpoint-key-foreign",
		"the key of --checkpoint-key has the origin {asked} and is not used: the origin of the log is {origin}")
	CodeCheckpointKeyRetired = code("checkpoint-key-retired",
		"the key of --checkpoint-key, {key}, is retired and is not used again")
	CodeCheckpointKeyWaits = code("checkpoint-key-waits",
		"the key of --checkpoint-key is not in the log yet: it is added when this master leads (chainstore master "+
			"transfer)")
	CodeIssuer = code("oidc-issuer",
		"the keys of the OIDC issuer cannot be fetched, and known ones are used for 24 hours: {detail}")
	CodeSettingIgnored = code("setting-ignored",
		"--{setting} {asked} changes nothing: the group has {value}; settings are changed with chainstore master "+
			"settings")
	CodeFlagDiffers = code("flag-differs",
		"--{flag} is set on masters {with} and not on {without}, so it is in force on a part of them: start all with "+
			"the same flags")
	CodeFailedSync = code("failed-sync",
		"a sync of the data folder of node {node} failed: {detail}; it does not start again before its disk was "+
			"checked and its machine restarted")
	CodeMasterNotice = code("master-notice", "master {node}: {cause}")
)

// Codes of the details of findings: where a block is damaged, and how.
var (
	CodePlaceUnknown = code("place-unknown", "the block is missing, and its place in {file} is not known")
	CodeFileMissing  = code("file-missing", "{file} is missing")
	CodeFileEnds     = code("file-ends",
		"{file} ends after {bytes} of {size} bytes of the frame that begins at offset {offset}")
	CodeFileUnreadable = code("file-unreadable", "{file} cannot be read at offset {offset}: {detail}")
	CodeHeaderDamaged  = code("header-damaged", "the header of {file} is damaged")
	CodeHeaderRestored = code("header-restored", "the header of {file} was damaged and was written again")
	CodeFrameLength    = code("frame-length",
		"{file}, frame at offset {offset}: it names a length of {bytes} bytes, not {size}")
	CodeFrameChecksum = code("frame-checksum", "{file}, frame at offset {offset}: its checksum is wrong")
	CodeBlockForm     = code("block-form", "{file}, frame at offset {offset}: its bytes are not a block: {detail}")
	CodeBlockNumber   = code("block-number", "{file}, frame at offset {offset}: the block has another number")
	CodeBlockLink     = code("block-link",
		"{file}, frame at offset {offset}: the block names another one as the one before it")
	CodeBlockFirst = code("block-first", "{file}, frame at offset {offset}: the index of its first leaf is wrong")
	CodeBlockCount = code("block-count", "{file}, frame at offset {offset}: the number of records is wrong")
	CodeBlockTime  = code("block-time",
		"{file}, frame at offset {offset}: the times of block and records are out of order")
	CodeBlockRoot = code("block-root", "{file}, frame at offset {offset}: the records do not hash to its root")
	CodeBlockWork = code("block-work",
		"{file}, frame at offset {offset}: the hash has too few leading zero bits")
	CodeBlockUnconnected = code("block-unconnected",
		"{file}, frame at offset {offset}: the tree between the blocks before and this one is not known")
	CodeLeavesMissing = code("leaves-missing", "the stored leaf hashes cannot tell which record differs: {detail}")
	CodeRecordsDiffer = code("records-differ",
		"{file}, frame at offset {offset}: {count} {count|record does|records do} not match {count|its leaf|their "+
			"leaves}: {records}; the first begins at offset {at} of the file")
	CodeMinedAgain = code("mined-again",
		"{file}, frame at offset {offset}: the block was changed and mined again: block {block} follows another one")
	CodeNotFollowed = code("not-followed", "block {block} does not follow from it, and block {next} follows from that")
	CodeTwoFaults   = code("two-faults", "{cause}; {more}")
	CodeForkUnknown = code("fork-unknown",
		"its chain is consistent and another one; where it begins could not be found: {detail}")
	CodeMisplaced  = code("misplaced", "{path}: a {found} stands in the place of a {needed}")
	CodeMovedAside = code("moved-aside",
		"{path}: a {found} stood in the place of a {needed}, and was moved to {moved}")
)

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
