package masternode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// maxSilence is how long a master that has heard from no leader still trusts its table of tokens.
const maxSilence = 5 * time.Second

// Access returns what a project's token permits. If this master does not know the token, it confirms that with the
// leader, unless the token has a form that none has. A master that has not heard from a leader for 5 s refuses, since
// it may have missed a revocation. mayAsk is called before the leader is asked; its error is returned instead. Errors:
// wire.ErrUnauthorized, wire.ErrNoLeader.
func (n *Node) Access(ctx context.Context, token string, mayAsk func() error) (masterfsm.Access, error) {
	if silence := n.cfg.Ledger.LastContact(); silence > maxSilence {
		return masterfsm.Access{}, fmt.Errorf(
			"%w: this master has not heard from one for %v, so it cannot tell whether the token still holds",
			wire.ErrNoLeader, silence.Round(time.Second))
	}
	hash := sha256.Sum256([]byte(token))
	var a masterfsm.Access
	look := func() error {
		known := false
		n.cfg.Ledger.Read(func(s *masterfsm.State) { a, known = s.Access(hash) })
		if !known {
			return errNotHere
		}
		return nil
	}
	err := look()
	if errors.Is(err, errNotHere) && couldBeToken(token) { // no master knows a token of another form
		if err := mayAsk(); err != nil {
			return masterfsm.Access{}, err
		}
		err = n.confirmed(ctx, look)
	}
	if errors.Is(err, errNotHere) || errors.Is(err, wire.ErrNotFound) {
		err = wire.ErrUnauthorized
	}
	return a, err
}

// newToken returns a new token of a project.
func newToken() string { return rand.Text() }

// couldBeToken reports whether a token has the form of those that [newToken] has ever returned: at least 26 characters
// of the alphabet of base32.
func couldBeToken(token string) bool {
	return len(token) >= 26 && strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// MayRead returns the project of an id if a reader may read its records. Every path to a record calls it or readable.
// A refusal is confirmed with the leader: the project may have been made public. Errors: wire.ErrForbidden, which
// reveals only that there is a record, and wire.ErrNoLeader.
func (n *Node) MayRead(ctx context.Context, reader masterfsm.Access, owner uint32) (masterfsm.Project, error) {
	if p, ok := n.readable(reader, owner); ok {
		return p, nil
	}
	if err := n.confirm(ctx); err != nil {
		return masterfsm.Project{}, err
	}
	if p, ok := n.readable(reader, owner); ok {
		return p, nil
	}
	return masterfsm.Project{}, wire.ErrForbidden
}

// readable returns the project of an id if a reader may read its records, as far as this master knows.
func (n *Node) readable(reader masterfsm.Access, owner uint32) (masterfsm.Project, bool) {
	var p masterfsm.Project
	var ok bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) { p, ok = s.Project(owner) })
	if !ok || !reader.MayRead(&p) {
		return masterfsm.Project{}, false
	}
	return p, true
}

// MayAppend checks that a token may append to its project. The error wraps wire.ErrForbidden.
func MayAppend(a masterfsm.Access) error {
	if !a.Rights.Has(masterfsm.MayAppend) {
		return fmt.Errorf("%w: it may not append", wire.ErrForbidden)
	}
	return nil
}
