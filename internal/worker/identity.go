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

// Identity is who a worker is: the file identity.json of its data folder, mode 0600. In the file it carries a checksum, so that a
// damaged one is not taken for another worker's.
type Identity struct {
	Version     int    `json:"version"`
	ID          string `json:"id"`           // given by the masters; "" until the first registration
	MasterToken string `json:"master_token"` // what masters show to this worker
	AccessToken string `json:"access_token"` // what this worker shows to masters; "" until the first registration
	Group       string `json:"group"`        // the cluster that it belongs to; "" until the first registration
}

func identityPath(dir string) string { return filepath.Join(dir, "identity.json") }

// checksumKey stands in the file before the checksum, the last of the fields: the CRC-32C of all bytes before it, in decimal. So the
// checksum of a newer version's file can be told too.
const checksumKey = ",\n  \"checksum\": "

// sealed adds the checksum to an identity's JSON.
func sealed(data []byte) []byte {
	data = bytes.Clone(bytes.TrimSuffix(data, []byte("\n}"))) // what is given must stay: intact compares with it
	return fmt.Appendf(data, "%s%d\n}\n", checksumKey, durable.Checksum(data))
}

// intact reports whether a file is as it was written.
func intact(data []byte) bool {
	before, _, found := bytes.Cut(data, []byte(checksumKey))
	return found && bytes.Equal(data, sealed(before))
}

// LoadIdentity reads the identity of a data folder, or makes a new one, with a master token and no id, and writes it down. A damaged one
// is moved aside, to identity.json.damaged-N: the worker registers anew then, and replaces its old self by its address. damaged says
// what was wrong, nil where nothing was.
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

// ReadIdentity reads the identity of a data folder and changes nothing. The zero Identity stands for one that is not there or damaged.
func ReadIdentity(dir string) (Identity, error) {
	id, damaged, err := readIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) || damaged != nil {
		return Identity{}, nil
	}
	return id, err
}

// readIdentity reads the file. damaged says what is wrong with its content.
func readIdentity(dir string) (id Identity, damaged, err error) {
	path := identityPath(dir)
	data, err := os.ReadFile(path)
	if err != nil {
		return Identity{}, nil, err
	}
	err = json.Unmarshal(data, &id)
	switch {
	case !intact(data):
		return Identity{}, errors.New("its checksum does not fit"), nil
	case id.Version > identityVersion: // before the error: a newer version may have fields of other types
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

// moveAside gives a file a name beside its own that is free.
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
	return durable.WriteFile(identityPath(dir), sealed(data), 0o600)
}
