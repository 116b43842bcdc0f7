package raftstore

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// What can go wrong.
var (
	// ErrNotLeader: this master does not lead, is handing the leadership over, or is new. Nothing was appended.
	ErrNotLeader = fmt.Errorf("this master: %w", wire.ErrNotLeader)
	// ErrClosed: the store was closed, or stopped by a failure. Nothing was appended.
	ErrClosed = fmt.Errorf("this master is stopping: %w", ErrNotLeader)
	// ErrOutcomeUnknown: the entry may be in the log, or come into it, or never. Only the state tells.
	ErrOutcomeUnknown = fmt.Errorf("%w: leadership or patience ended while the entry was being committed", wire.ErrUnknownOutcome)
	// ErrOtherGroup: this master is part of another group.
	ErrOtherGroup = errors.New("this master belongs to another group")
	// ErrOtherMember: another member than this one was meant. A wiped data folder makes a new member.
	ErrOtherMember = errors.New("another master is meant")
	// ErrNoMember: there is no such member.
	ErrNoMember = errors.New("no member")
	// ErrRemoved: the group has taken this master out for good.
	ErrRemoved = errors.New("this master was taken out of its group for good")
	// ErrRecovery: a recovery of the data folder was begun and not finished.
	ErrRecovery = errors.New("a recovery of this data folder was begun and not finished: run 'chainstore master recover' again")
	// ErrDisk: a read, write or sync of the data folder failed, or what is there is damaged. The master must stop, since
	// nobody can tell what of a failed write is on the disk.
	ErrDisk = errors.New("data folder failed")
)
