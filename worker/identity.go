package worker

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/durable"
)

// identityVersion is the version of identity.json.
const identityVersion = 1

// Identity is who a worker is: the file identity.json of its data folder, mode 0600.
type Identity struct {
	Version     int    `json:"version"`
	ID          string `json:"id"`           // given by the masters; "" until the first registration
	MasterToken string `json:"master_token"` // what masters show to this worker
	AccessToken string `json:"access_token"` // what this worker shows to masters; "" until the first registration
	Group       string `json:"group"`        // the cluster that it belongs to; "" until the first registration
}

// ErrNewerFormat: a newer ChainStore wrote the file.
var ErrNewerFormat = errors.New("written by a newer version of ChainStore")

func identityPath(dir string) string { return filepath.Join(dir, "identity.json") }

// LoadIdentity reads the identity of a data folder, or makes a new one, with a master token and no id, and writes it down.
func LoadIdentity(dir string) (Identity, error) {
	path := identityPath(dir)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := Identity{Version: identityVersion, MasterToken: rand.Text()}
		return id, id.Save(dir)
	}
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	err = json.Unmarshal(data, &id)
	if id.Version > identityVersion { // before the error: a newer version may have fields of other types
		return Identity{}, fmt.Errorf("%s: %w: version %d, this program knows %d", path, ErrNewerFormat, id.Version, identityVersion)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%s: %w (move it away to register as a new node)", path, err)
	}
	if id.Version != identityVersion || id.MasterToken == "" {
		return Identity{}, fmt.Errorf("%s: no identity of version %d (move it away to register as a new node)", path, identityVersion)
	}
	return id, nil
}

// Save writes the identity into a data folder.
func (id Identity) Save(dir string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(identityPath(dir), append(data, '\n'), 0o600)
}
