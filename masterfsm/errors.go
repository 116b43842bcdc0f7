package masterfsm

import (
	"errors"
	"fmt"
)

// Why a command was refused. A refusal is the same on every master and changes nothing.
var (
	// ErrCommand: the bytes are no command of this version. It must stop a master: to skip an entry that another master
	// understands would part their states.
	ErrCommand = errors.New("log entry cannot be applied")
	// ErrBacklog: the masters hold max_pending_bytes already.
	ErrBacklog = errors.New("backlog full: the masters hold as many unstored bytes as they may")
	// ErrQuota: the project has spent what it may append in a second; more comes with time.
	ErrQuota = errors.New("the project's quota is spent")
	// ErrOversize: a record over the project's quota, or more in one piece than the quota gives in a second.
	ErrOversize = errors.New("larger than the project's quota takes in one piece")
	// ErrUnknownProject: the project is not in the table.
	ErrUnknownProject = errors.New("unknown project")
	// ErrUnknownToken: the project has no token of that id.
	ErrUnknownToken = errors.New("unknown token id")
	// ErrTooMany: the table takes no more projects, or the project no more tokens.
	ErrTooMany = errors.New("no more fit")
	// ErrKeyReused: the idempotency key was used in this project for another body.
	ErrKeyReused = errors.New("idempotency key already used for another body")
	// ErrStale: the command speaks of an older version of the state than the table has, or of one that is past.
	ErrStale = errors.New("command is out of date")
	// ErrNameReused: a submission of that name (member, boot, sequence number) was taken before, and had other content or was taken at
	// protocol level 0. Nothing was appended under the name now. It wraps ErrStale.
	ErrNameReused = fmt.Errorf("%w: the name of a submission was used before", ErrStale)
	// ErrOtherStart: another start of the worker has registered since, and the worker's data folder does not know it:
	// the folder was copied, or an older copy of it was put back. See [OtherStartError].
	ErrOtherStart = errors.New("another start of the worker has registered, which its data folder does not know")
	// ErrNonce: the nonce does not mine the block that waits.
	ErrNonce = errors.New("nonce does not mine the block")
	// ErrNameTaken: a project of that name exists.
	ErrNameTaken = errors.New("project name taken")
	// ErrBadCommand: a field of the command is over its limit.
	ErrBadCommand = errors.New("command not acceptable")
	// ErrUnknownNode: no worker of that id is registered.
	ErrUnknownNode = errors.New("unknown node")
	// ErrNotLost: a block is to be confirmed as lost that may be somewhere.
	ErrNotLost = errors.New("the block is not reported as lost")
	// ErrTooFewCopies: without that storage node fewer than Replicas good copies would remain.
	ErrTooFewCopies = errors.New("too few good copies would remain")
	// ErrMasterRemoved: the master was taken out of the group for good.
	ErrMasterRemoved = errors.New("the master was removed from the group")
	// ErrRemoved: the worker was taken out of the cluster for good.
	ErrRemoved = errors.New("the worker was removed from the cluster")
	// ErrUnknownLogKey: the log has no key of that id.
	ErrUnknownLogKey = errors.New("unknown log key")
	// ErrLastLogKey: without that key nothing would sign the checkpoints.
	ErrLastLogKey = errors.New("the only log key that signs")
)
