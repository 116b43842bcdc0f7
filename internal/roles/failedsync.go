package roles

import (
	"errors"

	"github.com/chainstore/chainstore/internal/durable"
)

// noteFailedSync writes the mark if an error that ends a role is that of a sync. It returns the error, extended if the
// mark could not be written.
func noteFailedSync(mark *durable.SyncMark, err error) error {
	if _, markErr := mark.Note(err); markErr != nil {
		return errors.Join(err, markErr)
	}
	return err
}
