package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
)

// Checkpoint is a tree that the group has signed.
type Checkpoint struct {
	Boundary masterfsm.Boundary
	Note     []byte // the signed note (C2SP tlog-checkpoint), with the cosignatures that the table has for it
}

// Checkpoint is the newest published checkpoint as the leader knows it: whichever master is asked, it is never older than one that another
// has shown before. Errors: ErrNoCheckpoint, ErrNoLogKey, ErrNoLeader.
func (n *Node) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if err := n.confirmShared(ctx); err != nil {
		return Checkpoint{}, err
	}
	return n.checkpointHere()
}

// checkpointHere is the newest published checkpoint that this master knows of. Errors: ErrNoLogKey, and ErrNoCheckpoint after a recovery, until
// what was shown before cannot be newer.
//
// Nothing is signed that is not committed: the boundary is the replicated table's, where one size has one root and nothing goes back, and Ed25519
// gives every master the same bytes for it.
func (n *Node) checkpointHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Published) }

// witnessedHere is the newest checkpoint with cosignatures that this master knows of and that may be shown, which may be older than the published one,
// and is that where there is none. Errors: as checkpointHere.
func (n *Node) witnessedHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Witnessed) }

// signed signs a checkpoint of the table.
func (n *Node) signed(which func(*masterfsm.State) masterfsm.Cosigned) (Checkpoint, error) {
	var c masterfsm.Cosigned
	var keys masterfsm.Log
	var group string
	var floor, published uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		c, keys, group = which(s), s.Log(), s.Group().ID
		floor, published = s.Floor(), s.Published().Boundary.Height
	})
	signed, err := n.notary.sign(n.logSecret(group), keys, c)
	if n.notary.isNews(err) {
		n.log.Error("no checkpoint can be signed", "error", err)
	}
	if err == nil && published < floor {
		return Checkpoint{}, fmt.Errorf("%w: the group was recovered, and may have shown one of %d blocks before; the newest that may be shown has %d: it waits until enough storage nodes, and witnesses where they are asked for, have the chain again",
			ErrNoCheckpoint, floor, published)
	}
	return Checkpoint{Boundary: c.Boundary, Note: signed}, err
}

// notary signs checkpoints. It keeps the opened keys and the last notes: many ask for the same.
type notary struct {
	mu      sync.Mutex             // guards all below
	signers map[string]note.Signer // by key id
	notes   map[string][]byte      // by what they were made of, at most keptNotes
	told    string                 // the last trouble that was logged
}

// keptNotes is how many notes a notary keeps: those of the published checkpoint, of the witnessed one, and of the one that witnesses are asked for.
const keptNotes = 4

// sign makes the signed note of a checkpoint: one signature of each key that signs, then the cosignatures.
func (y *notary) sign(secret logSecret, keys masterfsm.Log, c masterfsm.Cosigned) ([]byte, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	signers, err := y.open(secret, keys)
	if err != nil {
		return nil, err
	}
	text := string(log.Checkpoint{Origin: keys.Origin, Size: c.Boundary.Size, Hash: c.Boundary.Root[:]}.Marshal())
	of := strings.Builder{}
	of.WriteString(text)
	for _, s := range signers {
		fmt.Fprintf(&of, "%08x\n", s.KeyHash())
	}
	cosigned := strings.Builder{}
	for _, line := range c.Cosignatures {
		cosigned.WriteString(line.Line + "\n")
	}
	of.WriteString(cosigned.String())
	if known, ok := y.notes[of.String()]; ok {
		return known, nil
	}
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of %d leaves: %w", c.Boundary.Size, err)
	}
	if y.notes == nil || len(y.notes) >= keptNotes {
		y.notes = map[string][]byte{}
	}
	signed = slices.Clip(append(signed, cosigned.String()...))
	y.notes[of.String()] = signed
	return signed, nil
}

// isNews reports whether a master's log does not tell yet why nothing can be signed. That there is no key at all is none: the leader makes one.
func (y *notary) isNews(err error) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	last := y.told
	y.told = ""
	if errors.Is(err, errSealed) {
		y.told = err.Error()
	}
	return y.told != "" && y.told != last
}

// open opens the keys that sign and are not open yet. mu is held.
func (y *notary) open(secret logSecret, keys masterfsm.Log) ([]note.Signer, error) {
	signing := keys.Signing()
	if len(signing) == 0 {
		return nil, fmt.Errorf("%w: the leader makes its key as soon as it leads", ErrNoLogKey)
	}
	open := make(map[string]note.Signer, len(signing)) // a key that is retired is forgotten
	signers := make([]note.Signer, len(signing))
	for i := range signing {
		k := &signing[i]
		signers[i] = y.signers[k.ID]
		if signers[i] == nil {
			private, err := secret.open(keys.Origin, k)
			if err == nil {
				signers[i], err = private.signer()
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w; start the masters with the token that they had, or with --checkpoint-key and a backup of the key", ErrNoLogKey, err)
			}
		}
		open[k.ID] = signers[i]
	}
	y.signers = open
	return signers, nil
}
