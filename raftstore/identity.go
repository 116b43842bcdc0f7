package raftstore

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

const formatVersion = 1

// identity is the file master.json: who this master is.
type identity struct {
	Version    int    `json:"version"`
	ID         string `json:"id"`
	Boot       uint64 `json:"boot"`              // goes up at each start
	Group      string `json:"group"`             // "" while the master is new
	Epoch      uint64 `json:"epoch"`             // of the group
	Removed    bool   `json:"removed,omitempty"` // the group has taken this master out
	Recovering bool   `json:"rescue,omitempty"`  // a recovery was begun and not finished
	Stale      bool   `json:"stale,omitempty"`   // the folder is an older copy: a peer knows of a newer start of it
	Level      uint64 `json:"level,omitempty"`   // the group's protocol level, as far as this master knew when it last ran
	// Rehearsal is the SHA-256 of the cluster token of a rehearsal, in hex: see [Recovery.Rehearse]. "" for the folder
	// of any other master.
	Rehearsal string `json:"rehearsal,omitempty"`
	Begun     bool   `json:"begun,omitempty"` // raft.db holds a term: one without has lost its votes and its log
	// Founding are the first members of a group that this master is one of, kept so that a founding that was cut short is
	// finished at the next start.
	Founding []wire.Member `json:"founding,omitempty"`
}

// startsPath returns the path of the file of starts in a data folder.
func startsPath(dir string) string { return filepath.Join(dir, "starts") }

// loadIdentity reads the identity of a data folder, or makes a new one where there is none. It writes nothing.
func loadIdentity(dir string) (identity, error) {
	path := filepath.Join(dir, "master.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{Version: formatVersion, ID: newMemberID()}, nil
	}
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, fmt.Errorf("%w: %s cannot be read: %w (move the folder away to join as a new master)", ErrDisk, path, err)
	}
	if id.Version > formatVersion {
		return identity{}, fmt.Errorf("%s: %w", path, durable.NewerVersion(id.Version, formatVersion))
	}
	if id.Version != formatVersion || id.ID == "" || strings.Contains(id.ID, "@") {
		return identity{}, fmt.Errorf("%w: %s holds no identity of version %d (move the folder away to join as a new master)",
			ErrDisk, path, formatVersion)
	}
	return id, nil
}

// mayRun reports what speaks against running as this master.
func (id identity) mayRun(dir string) error {
	switch {
	case id.Removed:
		return fmt.Errorf("%w: %s, of group %s; to let the machine in as a new master, move %s away and start it with --join",
			ErrRemoved, id.ID, id.Group, dir)
	case id.Recovering:
		return fmt.Errorf("%s: %w", dir, ErrRecovery)
	}
	return nil
}

// handshakeGroup is the group as the handshake of connections names it, "" while the master is new: masters from before a recovery
// have another epoch, and fit no more.
func (id identity) handshakeGroup() string {
	if id.Group == "" {
		return ""
	}
	return fmt.Sprintf("%s#%d", id.Group, id.Epoch)
}

func (id identity) save(dir string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "master.json"), append(data, '\n'), 0o600)
}

// newMemberID is 80 random bits in lower-case base 32.
func newMemberID() string { return strings.ToLower(rand.Text()[:16]) }
