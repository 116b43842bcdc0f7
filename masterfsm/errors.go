package masterfsm

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Why a command was refused, beside the refusals that are rows of wire's table. A refusal is the same on every master
// and changes nothing.
var (
	// ErrCommand: the bytes are no command of this version. It must stop a master: a master that skips an entry which
	// another one understands would have another state.
	ErrCommand = errors.New("log entry cannot be applied")
	// ErrStale: the command refers to an older version of the state than the table has, or to one that is past.
	ErrStale = errors.New("command is out of date")
	// ErrNameReused: a submission of that name (member, boot, sequence number) was applied before, and had other
	// content or was applied at protocol level 0. Nothing was appended under the name now. It wraps ErrStale.
	ErrNameReused = fmt.Errorf("%w: the name of a submission was used before", ErrStale)
	// ErrNonce: the nonce does not mine the block that waits.
	ErrNonce = errors.New("nonce does not mine the block")
	// ErrBadCommand: a field of the command is over its limit.
	ErrBadCommand = wire.ErrBadRequest.Variant("command not acceptable")
	// ErrOversize: a record over the project's quota, or more in one piece than the quota gives in a second.
	ErrOversize = wire.ErrTooLarge.Variant("larger than the project's quota takes in one piece")
	// ErrUnknownProject: the project is not in the table.
	ErrUnknownProject = wire.ErrNotFound.Variant("unknown project")
	// ErrUnknownToken: the project has no token of that id.
	ErrUnknownToken = wire.ErrNotFound.Variant("unknown token id")
	// ErrUnknownNode: no worker of that id is registered.
	ErrUnknownNode = wire.ErrNotFound.Variant("unknown node")
	// ErrUnknownLogKey: the log has no key of that id.
	ErrUnknownLogKey = wire.ErrNotFound.Variant("unknown log key")
	// ErrMasterRemoved: the master was removed from the group.
	ErrMasterRemoved = wire.ErrRemoved.Variant("the master was removed from the group")
)
