package roles

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/raftstore"
)

// maxKeyFile bounds a file with a private key, in bytes: the longest takes a few hundred.
const maxKeyFile = 4 << 10

// readLogKey reads a private key of the log from a file that only its owner may read. It returns nil for no file.
func readLogKey(path string) (*signing.Key, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readPrivateFile("--checkpoint-key", path, "private key")
	if err != nil {
		return nil, err
	}
	key, err := signing.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("--checkpoint-key %s: %w", path, err)
	}
	return key, nil
}

// readJoinTicket reads a join ticket from a file that only its owner may read. It returns the zero Key for no file.
func readJoinTicket(path string) (joining.Key, error) {
	if path == "" {
		return joining.Key{}, nil
	}
	text, err := readPrivateFile("--join-ticket-file", path, "join ticket")
	if err != nil {
		return joining.Key{}, err
	}
	ticket, err := joining.ParseTicket(text)
	if err != nil {
		return joining.Key{}, fmt.Errorf("--join-ticket-file %s: %w", path, err)
	}
	return ticket, nil
}

// readPrivateFile reads a small file that only its owner may read. what names its content.
func readPrivateFile(flag, path, what string) (_ string, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not wait for the writer of a named pipe
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", flag, err)
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return "", fmt.Errorf("%s %s: it must be a file with one %s, of at most %d bytes", flag, path, what, maxKeyFile)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s %s: other users may read or change it (mode %04o), so it is not "+
			"secret: chmod 600 it, or make another one", flag, path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return string(text), nil
}

// BackupLogKeys reads the private keys of the log from the data folder of a stopped master, which may be a removed one.
// It returns the keys that sign, and those that the folder does not show to be retired. They are sealed under a value
// of the secret. Keys that are sealed under another one are logged. Nothing in the folder changes except its lock.
// atRest has the keys of a folder that is encrypted at rest, nil for none.
func BackupLogKeys(
	data string, secret []string, atRest *atrest.Ring, log hclog.Logger,
) (_ []*signing.Key, err error) {
	if len(secret) == 0 {
		return nil, secrets.ErrNone
	}
	if _, err := os.Stat(data); err != nil {
		return nil, err
	}
	folder, err := raftstore.OpenFolder(data, atRest, log)
	if err != nil {
		return nil, noteFailedSync(data, err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	state := folder.State()
	damaged := slices.IndexFunc(folder.Damaged(), func(d raftstore.Damage) bool { return !d.Segment })
	switch {
	case folder.Fresh():
		return nil, fmt.Errorf("%s is not the folder of a master of a group", data)
	case damaged >= 0:
		return nil, fmt.Errorf("%s: snapshot %s cannot be read, so the keys may be outdated: use the folder of "+
			"another master: %w", data, folder.Damaged()[damaged].Path, folder.Damaged()[damaged].Err)
	case len(state.Log().Keys) == 0:
		return nil, fmt.Errorf("%s: the log has no key yet: the first leader makes one", data)
	}
	keys, err := signing.OpenKeys(secret, state.Group().ID, folder.Log())
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("%s: %w", data, err)
	case err != nil:
		log.Warn("some keys do not open: back them up with the former secret", "error", err)
	}
	return keys, nil
}

// LogToDatabase moves the log of a stopped master to raft.db: see [raftstore.LogToDatabase]. A folder in which a sync
// has failed is refused as at a start.
func LogToDatabase(data string, log hclog.Logger) (moved bool, err error) {
	if _, err := os.Stat(data); err != nil {
		return false, err
	}
	mark, err := durable.OpenSyncMark(data, false)
	if err != nil {
		return false, err
	}
	moved, err = raftstore.LogToDatabase(data, mark, log)
	return moved, errors.Join(err, mark.Close())
}
