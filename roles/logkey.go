package roles

import (
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/raftstore"
)

// readLogKey reads a private key of the log from a file that is for its owner's eyes alone; nil for no file.
func readLogKey(path string) (*masternode.LogKey, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("--checkpoint-key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--checkpoint-key %s: others may read or change it (mode %04o), so it is no secret: chmod 600 it, or make another key",
			path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--checkpoint-key: %w", err)
	}
	key, err := masternode.ParseLogKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("--checkpoint-key %s: %w", path, err)
	}
	return key, nil
}

// BackupLogKeys reads the private keys of the log that sign from the data folder of a master that does not run, with the cluster token that they
// are sealed under. Nothing in the folder is changed.
func BackupLogKeys(data, clusterToken string, log hclog.Logger) (_ []*masternode.LogKey, err error) {
	if clusterToken == "" {
		return nil, errors.New("the cluster token is needed: --cluster-token-file FILE, or CHAINSTORE_CLUSTER_TOKEN")
	}
	if _, err := os.Stat(data); err != nil {
		return nil, err
	}
	folder, err := raftstore.OpenRescue(data, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	state := folder.State()
	switch {
	case folder.Fresh():
		return nil, fmt.Errorf("%s holds no master of a group", data)
	case len(folder.Damaged()) > 0:
		return nil, fmt.Errorf("%s: snapshot %s cannot be read, so the keys may be old ones: take the folder of another master: %w",
			data, folder.Damaged()[0].Path, folder.Damaged()[0].Err)
	case len(state.Log().Keys) == 0:
		return nil, fmt.Errorf("%s: the log has no key yet: its first leader makes it", data)
	}
	keys, err := masternode.OpenLogKeys(clusterToken, state.Group().ID, state.Log())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", data, err)
	}
	return keys, nil
}
