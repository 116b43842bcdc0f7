package worker

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
)

// identityVersion is the version of identity.json.
const identityVersion = 1

// Identity is the content of the file identity.json of a data folder, mode 0600. The file has a checksum, so that a
// damaged identity is not mistaken for another worker's.
type Identity struct {
	Version     int    `json:"version"`
	ID          string `json:"id"`           // assigned by the masters; "" until the first registration
	MasterToken string `json:"master_token"` // masters authenticate to this worker with it
	AccessToken string `json:"access_token"` // this worker authenticates to masters with it; "" at first
	Group       string `json:"group"`        // the cluster of the worker; "" until the first registration
	// Proofs: the group has the protocol level from which no node sends a secret. It stays so.
	Proofs bool `json:"proofs,omitempty"`
}

func identityPath(dir string) string { return filepath.Join(dir, "identity.json") }

// checksumKey is before the checksum in the file. The checksum is the last field: the CRC-32C of all bytes before the
// key, in decimal. So the checksum of a newer version's file can be checked too.
const checksumKey = ",\n  \"checksum\": "

// addChecksum adds the checksum to an identity's JSON.
func addChecksum(data []byte) []byte {
	data = bytes.Clone(bytes.TrimSuffix(data, []byte("\n}"))) // a copy: intact compares with the original
	return fmt.Appendf(data, "%s%d\n}\n", checksumKey, durable.Checksum(data))
}

// intact reports whether a file is as it was written.
func intact(data []byte) bool {
	before, _, found := bytes.Cut(data, []byte(checksumKey))
	return found && bytes.Equal(data, addChecksum(before))
}

// LoadIdentity reads the identity of a data folder. If there is none, it writes a new one, with a master token and no
// id. A damaged one is moved aside, to identity.json.damaged-N. Then the worker registers as a new one, and replaces
// the old one by its address. damaged is what was wrong with the file, nil for nothing.
func LoadIdentity(dir string) (id Identity, damaged, err error) {
	id, damaged, err = readIdentity(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id, err := newIdentity(dir)
		return id, nil, err
	case err != nil || damaged == nil:
		return id, nil, err
	}
	path := identityPath(dir)
	aside, err := moveAside(path)
	if err != nil {
		return Identity{}, nil, err
	}
	id, err = newIdentity(dir)
	return id, fmt.Errorf("%s was damaged and is moved to %s: %w", path, aside, damaged), err
}

// ReadIdentity reads the identity of a data folder and changes nothing. It returns the zero Identity if the file is
// missing or damaged.
func ReadIdentity(dir string) (Identity, error) {
	id, damaged, err := readIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) || damaged != nil {
		return Identity{}, nil
	}
	return id, err
}

// readIdentity reads the file. damaged is what is wrong with its content.
func readIdentity(dir string) (id Identity, damaged, err error) {
	path := identityPath(dir)
	data, err := durable.ReadFile(path)
	if err != nil {
		return Identity{}, nil, err
	}
	err = json.Unmarshal(data, &id)
	switch {
	case !intact(data):
		return Identity{}, errors.New("its checksum does not fit"), nil
	case id.Version > identityVersion: // before err: a newer version may have fields of other types
		return Identity{}, nil, fmt.Errorf("%s: %w", path, durable.NewerVersion(id.Version, identityVersion))
	case err != nil:
		return Identity{}, err, nil
	case id.Version != identityVersion || id.MasterToken == "":
		return Identity{}, fmt.Errorf("no identity of version %d", identityVersion), nil
	}
	return id, nil, nil
}

func newIdentity(dir string) (Identity, error) {
	id := Identity{Version: identityVersion, MasterToken: rand.Text()}
	return id, id.Save(dir)
}

// moveAside renames a file to a free name beside its own, and returns it.
func moveAside(path string) (string, error) {
	for n := 1; ; n++ {
		to := fmt.Sprintf("%s.damaged-%d", path, n)
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to, errors.Join(os.Rename(path, to), durable.SyncDir(filepath.Dir(path)))
		} else if err != nil {
			return "", err
		}
	}
}

// Save writes the identity into a data folder.
func (id Identity) Save(dir string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(identityPath(dir), addChecksum(data), 0o600)
}
