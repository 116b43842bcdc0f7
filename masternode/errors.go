package masternode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/prover"
)

// What a request can end in. Refusals of the state machine come through as they are: masterfsm.ErrBacklog,
// ErrKeyReused, ErrQuota, ErrOversize, ErrNameTaken, ErrUnknownProject, ErrUnknownToken, ErrTooMany, ErrBadCommand.
var (
	// ErrNotFound: there is no such record or block. It is the leader's word, or follows from a block that is final.
	ErrNotFound = prover.ErrNotFound
	// ErrSeal: the leaf of that index is a block's seal. It wraps ErrNotFound.
	ErrSeal = prover.ErrSeal
	// ErrNotMined: the block is committed, and its header not made yet.
	ErrNotMined = errors.New("block is committed and not yet mined")
	// ErrNotSealed: the record's block has no proof of work yet, so nothing proves the record.
	ErrNotSealed = errors.New("the record's block is committed and not yet sealed")
	// ErrNotCovered: the record's block is in no checkpoint that is published yet.
	ErrNotCovered = errors.New("no signed checkpoint covers the record's block yet")
	// ErrTooManyStreams: this master serves as many streams as it can.
	ErrTooManyStreams = errors.New("too many streams")
	// ErrForbidden: the project's records are not open to that token.
	ErrForbidden = errors.New("the token does not open this project")
	// ErrUnauthorized: no token, or one that the cluster does not know.
	ErrUnauthorized = errors.New("unknown token")
	// ErrNoLeader: no leader could be reached within the time that the request may wait. Nothing was changed.
	ErrNoLeader = errors.New("no leader could be reached")
	// ErrUnknownOutcome: the connection to the leader, or its leadership, was lost while the append was under way. It may
	// have been committed.
	ErrUnknownOutcome = errors.New("the outcome is not known")
	// ErrForgotten: the table does not remember the submission of an append, or remembers another of its name. An earlier try may have been
	// committed; another try is of no use. Masters tell each other; a user gets ErrUnknownOutcome.
	ErrForgotten = errors.New("the submission is not one that the table remembers")
	// ErrUnavailable: no storage node could prove the record now.
	ErrUnavailable = prover.ErrUnavailable
	// ErrBusy: this master reads as much for others as it can. Nothing is wrong with what was asked for.
	ErrBusy = prover.ErrBusy
	// ErrNoCheckpoint: no checkpoint can be shown now.
	ErrNoCheckpoint = errors.New("no checkpoint can be shown")
	// ErrNoLogKey: the log has no key yet that signs, or this master cannot open those that it has. It wraps ErrNoCheckpoint.
	ErrNoLogKey = fmt.Errorf("%w: there is nothing to sign it with", ErrNoCheckpoint)
	// ErrLost: the record is in a block of which no storage node has a good copy, and a person has confirmed that it is lost.
	ErrLost = prover.ErrLost
	// ErrLaterEpoch: the workers obey another epoch of the group, which was recovered without this master.
	ErrLaterEpoch = errors.New("the workers obey a later epoch of this group")
	// ErrRemoved: this master was taken out of its group for good.
	ErrRemoved = errors.New("this master was taken out of its group for good")
	// ErrStaleFolder: this master's data folder is an older copy of itself, so it serves nothing.
	ErrStaleFolder = errors.New("this master does not serve")
	// ErrOtherGroup: a master of another group.
	ErrOtherGroup = errors.New("the masters are of different groups")
	// ErrTooFewMasters: the masters that would remain could not elect a leader.
	ErrTooFewMasters = errors.New("too few masters would remain")
	// ErrNotVoter: that master cannot lead now.
	ErrNotVoter = errors.New("that master cannot take the leadership")
	// ErrTooLarge: a record or a batch over its limit.
	ErrTooLarge = errors.New("over the limit")
	// ErrEmpty: a record without a payload.
	ErrEmpty = errors.New("a record needs a payload of at least one byte")
	// ErrBadRequest: a field that cannot be used.
	ErrBadRequest = prover.ErrBadRequest
)

// QuotaError is masterfsm.ErrQuota with what the project has left.
type QuotaError struct{ masterfsm.Shortage }

// Error says which part of the quota is spent, and when to try again.
func (e *QuotaError) Error() string {
	what := "records"
	if e.Bytes {
		what = "bytes"
	}
	return fmt.Sprintf("%v: %d %s a second, %d are left now; nothing was appended, try again in %d ms",
		masterfsm.ErrQuota, e.Limit, what, e.Left, e.Wait)
}

// Unwrap gives masterfsm.ErrQuota.
func (e *QuotaError) Unwrap() error { return masterfsm.ErrQuota }

// refused turns a refusal of the state machine into the error of this package that stands for it.
func (n *Node) refused(err error, project uint32, p masterfsm.Placement) error {
	switch {
	case p.Shortage != nil:
		return &QuotaError{*p.Shortage}
	case errors.Is(err, masterfsm.ErrOversize):
		var q masterfsm.Quota
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			p, _ := s.Project(project)
			q = p.Quota
		})
		return fmt.Errorf("%w; the quota is %s; nothing was appended, send smaller records or fewer at once", err, quotaText(q))
	case errors.Is(err, masterfsm.ErrUnknownProject):
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	return err
}

// quotaText says a quota in words.
func quotaText(q masterfsm.Quota) string {
	var parts []string
	add := func(limit uint64, what string) {
		if limit != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", limit, what))
		}
	}
	add(q.RecordBytes, "bytes a record")
	add(q.RecordsPerSecond, "records a second")
	add(q.BytesPerSecond, "bytes a second")
	return strings.Join(parts, ", ")
}
