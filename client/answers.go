package client

import (
	"bytes"
	"fmt"
	"strconv"

	formats "github.com/transparency-dev/formats/log"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// The checks of answers of JSON. A field that an answer does not have is zero when it is decoded. So the answer of
// another program, or an empty one, would be an empty list or position 0. Each check asks for fields that every version
// of a master sends.

// needs returns an error that wraps [ErrAnswer] for an answer without a field.
func needs(has bool, field string) error {
	if !has {
		return fmt.Errorf("%w: it has no %s", ErrAnswer, field)
	}
	return nil
}

// checkPage checks a page of a list, with its limit, 0 for the default of the master.
func checkPage[T any](list []T, field string, limit int) error {
	if limit > 0 && len(list) > limit {
		return fmt.Errorf("%w: %d %s, asked for %d", ErrAnswer, len(list), field, limit)
	}
	return needs(list != nil, field)
}

// checkPosition checks a position that a master gave to a record.
func checkPosition(p *wire.Position) error {
	return needs(p.Leaf != chain.Hash{} && p.State != "", "leaf and state")
}

// checkIntegrity checks that an integrity report has its lists: without them it would say that all is well.
func checkIntegrity(i *wire.Integrity) error {
	return needs(i.Nodes != nil && i.Events != nil, "nodes and events")
}

// isProject returns a check that an answer is about a project, which is named by its name or id.
func isProject(nameOrID string) func(*wire.Project) error {
	return func(p *wire.Project) error {
		id, err := strconv.ParseUint(nameOrID, 10, 32)
		if p.Name == "" || p.Name != nameOrID && (err != nil || uint64(p.ID) != id) {
			return fmt.Errorf("%w: it is about the project %q", ErrAnswer, p.Name)
		}
		return nil
	}
}

// checkNote checks that a text is a checkpoint with signatures, which it does not verify.
func checkNote(text []byte) error {
	var checkpoint formats.Checkpoint
	rest, err := checkpoint.Unmarshal(text)
	if err != nil {
		return fmt.Errorf("%w: not a checkpoint: %w", ErrAnswer, err)
	}
	if !bytes.Contains(rest, []byte("\u2014 ")) || !bytes.HasSuffix(rest, []byte("\n")) {
		return fmt.Errorf("%w: a checkpoint without a signature", ErrAnswer)
	}
	return nil
}

// checkTlogProof checks that a text is a proof with its checkpoint, which it does not verify.
func checkTlogProof(text []byte) error {
	begin := []byte("c2sp.org/tlog-proof@v1\n")
	_, note, found := bytes.Cut(text, []byte("\n\n"))
	if !bytes.HasPrefix(text, begin) || !found {
		return fmt.Errorf("%w: not a proof in the form of tlog-proof", ErrAnswer)
	}
	return checkNote(note)
}
