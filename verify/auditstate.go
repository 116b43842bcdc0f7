package verify

import (
	"encoding/json"
	"fmt"

	"github.com/chainstore/chainstore/chain"
)

// StateFormat is the format field of every state.
const StateFormat = "chainstore-verify-state/v1"

// maxState bounds a state, in bytes.
const maxState = 1 << 20

// State is what a run of [Log] passes to the next: the newest checkpoint, and how far the chain is verified. It is the
// memory of one auditor and proves nothing to others.
type State struct {
	// Checkpoint is the newest signed one of the log, whether or not all of its tree has been verified.
	Checkpoint Checkpoint
	Head       chain.Head    // up to where the chain is verified: the end of a block
	Unchecked  []chain.Range // blocks before it that could not be, since no node has them any more
}

// stateFile is the JSON form of a State: docs/formats.md.
type stateFile struct {
	Format     string     `json:"format"`
	Origin     string     `json:"origin"`
	Checkpoint string     `json:"checkpoint"`
	Height     uint64     `json:"height"`
	Size       uint64     `json:"size"`
	Hash       chain.Hash `json:"hash"`
	Root       chain.Hash `json:"root"`
	Head       []byte     `json:"head"`

	Unchecked []chain.Range `json:"unchecked"`
}

// Marshal returns the state as JSON.
func (s *State) Marshal() ([]byte, error) {
	f := stateFile{
		Format: StateFormat, Origin: s.Checkpoint.Origin, Checkpoint: s.Checkpoint.Note,
		Height: s.Head.Height, Size: s.Head.Tree.Size(), Hash: s.Head.Hash, Root: s.Head.Tree.Root(),
		Head: s.Head.AppendTo(nil), Unchecked: append([]chain.Range{}, s.Unchecked...),
	}
	data, err := json.MarshalIndent(f, "", "  ")
	return append(data, '\n'), err
}

// ParseState reads a state. It was verified when it was written. Signatures are not checked again, since the key may be
// retired by now.
func ParseState(data []byte) (State, error) {
	var f stateFile
	if len(data) > maxState {
		return State{}, fmt.Errorf("not the state of an audit: it has %d bytes, the limit is %d; name another file, "+
			"or remove it to begin anew", len(data), maxState)
	}
	if err := decodeStrict(data, &f); err != nil {
		return State{}, fmt.Errorf("not the state of an audit: %w; name another file, or remove it to begin anew", err)
	}
	if f.Format != StateFormat {
		return State{}, fmt.Errorf("not the state of an audit: its format is %q, this program knows %q", f.Format,
			StateFormat)
	}
	s, err := f.state()
	if err != nil {
		return State{}, fmt.Errorf("the state of the audit is damaged: %w", err)
	}
	return s, nil
}

// state returns the state in a file whose parts fit together.
func (f *stateFile) state() (State, error) {
	head, err := chain.ParseHead(f.Head)
	if err != nil {
		return State{}, err
	}
	cp, err := ReadCheckpoint(f.Checkpoint)
	size := head.Tree.Size()
	switch {
	case err != nil:
	case head.Height != f.Height || size != f.Size || head.Hash != f.Hash || head.Tree.Root() != f.Root:
		err = fmt.Errorf("its head is not that of height %d", f.Height)
	case cp.Origin != f.Origin:
		err = fmt.Errorf("its checkpoint is of log %q, not %q", cp.Origin, f.Origin)
	case size > cp.Size:
		err = fmt.Errorf("it has verified %d leaves of a tree of %d", size, cp.Size)
	case size == cp.Size && head.Tree.Root() != cp.Root:
		err = fmt.Errorf("its head and its checkpoint have different roots for %d leaves", cp.Size)
	}
	s := State{Checkpoint: cp, Head: head}
	for _, r := range f.Unchecked {
		s.Unchecked = chain.AddRange(s.Unchecked, r)
	}
	return s, err
}
