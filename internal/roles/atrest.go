package roles

import (
	"context"
	"errors"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/storagenode"
)

// loadAtRest reads a file of at-rest keys; "" means none.
func loadAtRest(path string) (*atrest.Ring, error) {
	if path == "" {
		return nil, nil
	}
	return atrest.Load(path)
}

// CountAtRest counts the files of the data folder of a master or storage node by the at-rest key that they need. It
// needs no key, and a node may run in the folder.
func CountAtRest(dir string) (storagenode.AtRestFiles, error) {
	if !raftstore.IsFolder(dir) {
		return storagenode.CountAtRest(dir)
	}
	files, err := raftstore.CountAtRest(dir)
	return storagenode.AtRestFiles(files), err
}

// RewriteAtRest encrypts all data of a stopped node again, under new data keys. A storage node writes the rest of its
// index of records at its next start.
func RewriteAtRest(ctx context.Context, dir string, keys *atrest.Ring) error {
	if raftstore.IsFolder(dir) {
		return rewriteMaster(dir, keys, nil)
	}
	if _, err := storagenode.CountAtRest(dir); err != nil {
		return err // it is no data folder, and none is to be made
	}
	node, err := storagenode.Open(storagenode.Config{Dir: dir, AtRest: keys})
	if err != nil {
		return err
	}
	return errors.Join(node.Reencrypt(ctx), node.Close())
}

// DecryptAtRest decrypts all data of a stopped master.
func DecryptAtRest(dir string, keys *atrest.Ring) error { return rewriteMaster(dir, nil, keys) }

// rewriteMaster is [raftstore.RewriteAtRest]. A folder in which a sync has failed is refused as at a start.
func rewriteMaster(dir string, keys, former *atrest.Ring) error {
	if _, err := raftstore.CountAtRest(dir); err != nil {
		return err // it is no data folder, and none is to be made
	}
	mark, err := durable.OpenSyncMark(dir, false)
	if err != nil {
		return err
	}
	err = raftstore.RewriteAtRest(dir, keys, former, mark)
	_, noteErr := mark.Note(err) // that of the opening is not noted yet
	return errors.Join(err, noteErr, mark.Close())
}
