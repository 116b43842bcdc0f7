package signing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Errors of signing.
var (
	// ErrNoCheckpoint: no checkpoint can be shown now.
	ErrNoCheckpoint = wire.ErrUnavailable.Variant("no checkpoint can be shown")
	// ErrNoLogKey: the log has no signing key yet, or this master cannot open those that it has. It wraps
	// ErrNoCheckpoint.
	ErrNoLogKey = fmt.Errorf("%w: there is no key to sign it with", ErrNoCheckpoint)
)

// CheckpointSigner signs checkpoints. It keeps the opened keys and the last notes, because the same ones are requested
// often. The zero value is ready for use.
type CheckpointSigner struct {
	mu      sync.Mutex             // guards all below
	signers map[string]note.Signer // by key id
	notes   map[string][]byte      // by text, key ids and cosignatures; at most keptNotes
	failure string                 // the last failure that was news, "" after a success
}

// keptNotes is how many notes are kept: those of the published checkpoint, of the witnessed one, and of the one that
// witnesses are asked for.
const keptNotes = 4

// Sign returns the signed note of a checkpoint: one signature of each signing key, then the cosignatures. The error
// wraps ErrNoLogKey if there is no signing key, or if one of them does not open.
func (c *CheckpointSigner) Sign(secret Sealer, keys masterfsm.Log, at masterfsm.Cosigned) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	signers, err := c.open(secret, keys)
	if err != nil {
		return nil, err
	}
	text := checkpointText(keys.Origin, at.Boundary)
	of := strings.Builder{}
	of.WriteString(text)
	for _, s := range signers {
		fmt.Fprintf(&of, "%08x\n", s.KeyHash())
	}
	cosigned := strings.Builder{}
	for _, line := range at.Cosignatures {
		cosigned.WriteString(line.Line + "\n")
	}
	of.WriteString(cosigned.String())
	if known, ok := c.notes[of.String()]; ok {
		return known, nil
	}
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of %d leaves: %w", at.Boundary.Size, err)
	}
	if c.notes == nil || len(c.notes) >= keptNotes {
		c.notes = map[string][]byte{}
	}
	signed = slices.Clip(append(signed, cosigned.String()...))
	c.notes[of.String()] = signed
	return signed, nil
}

func checkpointText(origin string, at masterfsm.Boundary) string {
	return string(log.Checkpoint{Origin: origin, Size: at.Size, Hash: at.Root[:]}.Marshal())
}

// SignText returns a note of a text, signed by each signing key. The text must not be that of a checkpoint. The error
// is as of Sign.
func (c *CheckpointSigner) SignText(secret Sealer, keys masterfsm.Log, text string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	signers, err := c.open(secret, keys)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: text}, signers...)
}

// Tree is the size and the root of a tree.
type Tree struct {
	Size uint64
	Root chain.Hash
}

// OpenCheckpoint returns the tree of a checkpoint that a key of the log has signed, which may be retired.
func OpenCheckpoint(signed string, keys masterfsm.Log) (Tree, error) {
	verifiers := make([]note.Verifier, len(keys.Keys))
	for i := range keys.Keys {
		v, err := note.NewVerifier(keys.VerifierKey(&keys.Keys[i]))
		if err != nil {
			return Tree{}, err
		}
		verifiers[i] = v
	}
	n, err := note.Open([]byte(signed), note.VerifierList(verifiers...))
	if err != nil {
		return Tree{}, err
	}
	var c log.Checkpoint
	if _, err := c.Unmarshal([]byte(n.Text)); err != nil {
		return Tree{}, err
	}
	if c.Origin != keys.Origin || len(c.Hash) != chain.HashSize {
		return Tree{}, fmt.Errorf("it is of log %q, and this one is %q", c.Origin, keys.Origin)
	}
	return Tree{Size: c.Size, Root: chain.Hash(c.Hash)}, nil
}

// IsNews reports whether the result of a Sign should be logged: a key does not open, and the last call did not fail for
// the same reason. A log without a key is not news, since the leader makes one.
func (c *CheckpointSigner) IsNews(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.failure
	c.failure = ""
	if errors.Is(err, ErrSealed) {
		c.failure = err.Error()
	}
	return c.failure != "" && c.failure != last
}

// open returns the signing keys, and opens those that are not open yet. mu is held.
func (c *CheckpointSigner) open(secret Sealer, keys masterfsm.Log) ([]note.Signer, error) {
	signing := keys.Signing()
	if len(signing) == 0 {
		return nil, fmt.Errorf("%w: the leader makes its key as soon as it leads", ErrNoLogKey)
	}
	open := make(map[string]note.Signer, len(signing)) // without retired keys
	signers := make([]note.Signer, len(signing))
	for i := range signing {
		k := &signing[i]
		signers[i] = c.signers[k.ID]
		if signers[i] == nil {
			private, err := secret.Open(keys.Origin, k)
			if err == nil {
				signers[i], err = note.NewSigner(private.Text())
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w; start the masters with the token that they had, or with "+
					"--checkpoint-key and a backup of the key", ErrNoLogKey, err)
			}
		}
		open[k.ID] = signers[i]
	}
	c.signers = open
	return signers, nil
}
