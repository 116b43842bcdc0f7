package roles

import (
	"context"
	"errors"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/storagenode"
)

// loadAtRest reads a file of at-rest keys; "" means none.
func loadAtRest(path string) (*atrest.Ring, error) {
	if path == "" {
		return nil, nil
	}
	return atrest.Load(path)
}

// RewriteAtRest encrypts all data of a stopped storage node again, under new data keys. The node writes the rest of its
// index of records at its next start.
func RewriteAtRest(ctx context.Context, dir string, keys *atrest.Ring) error {
	if _, err := storagenode.CountAtRest(dir); err != nil {
		return err // it is no data folder, and none is to be made
	}
	node, err := storagenode.Open(storagenode.Config{Dir: dir, AtRest: keys})
	if err != nil {
		return err
	}
	return errors.Join(node.Reencrypt(ctx), node.Close())
}
