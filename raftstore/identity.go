package raftstore

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Versions of a data folder. A program refuses a version that it does not know.
const (
	logInDatabase = 1 // raft's log is in raft.db
	logInSegments = 2 // raft's log is in the folder log, and raft.db has term and vote
	// encryptedAtRest is as logInSegments. Log and snapshots are encrypted, or are being encrypted or decrypted.
	encryptedAtRest = 3

	formatVersion = encryptedAtRest // the newest
)

// identity is the content of the file master.json.
type identity struct {
	Version    int    `json:"version"`
	ID         string `json:"id"`
	Boot       uint64 `json:"boot"`              // number of starts
	Group      string `json:"group"`             // "" while the master is new
	Epoch      uint64 `json:"epoch"`             // of the group
	Removed    bool   `json:"removed,omitempty"` // the group has removed this master
	Recovering bool   `json:"rescue,omitempty"`  // a recovery was begun and not finished
	Stale      bool   `json:"stale,omitempty"`   // a peer has accepted a newer start: the folder is an older copy
	Level      uint64 `json:"level,omitempty"`   // the highest protocol level of the group that this master has seen
	// Rehearsal is the SHA-256 of the cluster token of a rehearsal, in hex: see [Recovery.Rehearse]. It is "" for any
	// other folder.
	Rehearsal string `json:"rehearsal,omitempty"`
	Begun     bool   `json:"begun,omitempty"` // raft has written a term; a raft.db without one has lost its content
	// Founding are the first members of the group, if this master is one of them. An interrupted founding is finished
	// at the next start.
	Founding []wire.Member `json:"founding,omitempty"`
	// VoteSums says that term and vote in raft.db have checksums.
	VoteSums bool `json:"vote_sums,omitempty"`
	// Key is the seed of the master's Ed25519 key, which is secret. Versions before protocol level 7 have none.
	Key []byte `json:"key,omitempty"`
	// Checksum is the CRC-32C of the file up to this field's name, 8 hex digits. It is "" in files of earlier versions.
	Checksum string `json:"checksum,omitempty"`

	isNew bool // there is no file yet
}

// inSegments reports whether raft's log is in the folder log.
func (id identity) inSegments() bool { return id.Version >= logInSegments }

// startsPath returns the path of the file of starts in a data folder.
func startsPath(dir string) string { return filepath.Join(dir, "starts") }

// loadIdentity reads the identity of a data folder, or makes a new one if there is none. It writes nothing.
func loadIdentity(dir string) (identity, error) {
	path := filepath.Join(dir, "master.json")
	data, err := durable.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{Version: logInDatabase, ID: newMemberID(), isNew: true}, nil
	}
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, fmt.Errorf("%w: %s cannot be read: %w (remove the member, move the folder away, and "+
			"join with a ticket)",
			ErrDisk, path, err)
	}
	if id.Version > formatVersion {
		return identity{}, fmt.Errorf("%s: %w", path, durable.NewerVersion(id.Version, formatVersion))
	}
	if id.Version < logInDatabase || id.ID == "" || strings.Contains(id.ID, "@") {
		return identity{}, fmt.Errorf("%w: %s is not an identity of version %d to %d "+
			"(remove the member, move the folder away, and join with a ticket)",
			ErrDisk, path, logInDatabase, formatVersion)
	}
	if id.Checksum != "" {
		summed := data[:max(0, bytes.LastIndex(data, []byte(`"checksum"`)))]
		if got := fmt.Sprintf("%08x", durable.Checksum(summed)); got != id.Checksum {
			return identity{}, fmt.Errorf("%w: %s: %w: its checksum is %.8q, its bytes have %s "+
				"(remove the member, move the folder away, and join with a ticket)",
				ErrDisk, path, durable.ErrDamaged, id.Checksum, got)
		}
	}
	return id, nil
}

// ReadMemberID returns the member id of a data folder, "" if there is none or it cannot be read.
func ReadMemberID(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "master.json")); err != nil {
		return ""
	}
	id, err := loadIdentity(dir)
	if err != nil {
		return ""
	}
	return id.ID
}

// checkMember returns an error if a master must not run with this identity.
func (id identity) checkMember(dir string) error {
	switch {
	case id.Removed:
		return fmt.Errorf("%w: %s, of group %s; to add the machine as a new master, move %s away and start it "+
			"with --join and a join ticket", ErrRemoved, id.ID, id.Group, dir)
	case id.Recovering:
		return fmt.Errorf("%s: %w", dir, ErrRecovery)
	}
	return nil
}

// checkOpen returns an error if a store must not open this identity's folder.
func (id identity) checkOpen(dir string, secret []string) error {
	if id.Level > masterfsm.ProtocolLevel {
		return fmt.Errorf("%s: %w: its group is at protocol level %d, this program knows %d",
			dir, durable.ErrNewerFormat, id.Level, masterfsm.ProtocolLevel)
	}
	if err := id.checkMember(dir); err != nil {
		return err
	}
	isOf := func(value string) bool { return id.Rehearsal == rehearsalMark(value) }
	if id.Rehearsal != "" && !slices.ContainsFunc(secret, isOf) {
		return fmt.Errorf("%s was made for a rehearsal under another cluster token: start it with the one that "+
			"'master recover --rehearsal' was given", dir)
	}
	return nil
}

// handshakeGroup returns the group's name in handshakes, "" while the master is new. It includes the epoch: masters
// that missed a recovery are refused.
func (id identity) handshakeGroup() string {
	if id.Group == "" {
		return ""
	}
	return fmt.Sprintf("%s#%d", id.Group, id.Epoch)
}

func (id identity) save(dir string) error {
	id.Checksum = "00000000"
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	at := bytes.LastIndex(data, []byte(`"checksum"`))
	data = append(data[:at], fmt.Sprintf("\"checksum\": \"%08x\"\n}", durable.Checksum(data[:at]))...)
	return durable.WriteFile(filepath.Join(dir, "master.json"), append(data, '\n'), 0o600)
}

// newMemberID returns 80 random bits in lower-case base 32.
func newMemberID() string { return strings.ToLower(rand.Text()[:16]) }
