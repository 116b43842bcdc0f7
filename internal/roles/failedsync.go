package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// Times of the report of a failed sync. A master waits up to five seconds for a leader.
const (
	reportTime  = 7 * time.Second
	reportAlone = 30 * time.Second // if only the masters can remember it
	reportPause = 500 * time.Millisecond
)

// failedSyncs remembers a failed sync of a role's data folder: in the folder, and in the masters' table.
type failedSyncs struct {
	mark    *durable.SyncMark
	masters *noderpc.Masters
	log     hclog.Logger
}

// note writes the mark if an error that ends the role is that of a sync. It returns the error, extended if the mark
// could not be written.
func (f *failedSyncs) note(err error) error {
	if _, markErr := f.mark.Note(err); markErr != nil {
		return errors.Join(err, markErr)
	}
	return err
}

// explainFailedSync adds to the refusal by the masters what to do.
func explainFailedSync(dir string, err error) error {
	if errors.Is(err, wire.ErrFailedSync) && !errors.Is(err, durable.ErrSyncFailed) {
		return fmt.Errorf("%w: %w", durable.SyncFailedError(dir, "the masters know of it"), err)
	}
	return err
}

// report tells the masters of the failed sync that was noted, if one was, until one of them has brought it to the
// leader. node returns the id of this node, its group and its access token, "" where they are not known, and the URLs
// of masters. Where the mark could not be written, report tries longer: without it, nothing would keep the role from a
// new start.
func (f *failedSyncs) report(node func() (failed wire.FailedSync, urls []string)) error {
	why, written := f.mark.Noted()
	if why == "" {
		return nil
	}
	failed, urls := node()
	if failed.ID == "" || len(urls) == 0 {
		return nil
	}
	limit := reportTime
	if !written {
		limit = reportAlone
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	failed.Kernel, failed.Detail = f.mark.Kernel(), why
	for {
		var last error
		for _, url := range urls {
			last = f.masters.ReportFailedSync(ctx, url, failed, false)
			if errors.Is(last, wire.ErrBadRequest) && failed.AccessToken != "" { // an older master does not know it
				older := failed
				older.AccessToken = ""
				last = f.masters.ReportFailedSync(ctx, url, older, false)
			}
			if last == nil {
				f.log.Info("the masters remember the failed sync", "node", failed.ID)
				return nil
			}
			if errors.Is(last, wire.ErrBadRequest) || errors.Is(last, wire.ErrOtherGroup) || ctx.Err() != nil {
				return fmt.Errorf("the masters do not remember the failed sync: %w", last)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the masters do not remember the failed sync: %w", last)
		case <-time.After(reportPause):
		}
	}
}

// noteFailedSync remembers in a data folder that its opening has failed because of a sync. It returns the error, with
// another one if that could not be done.
func noteFailedSync(dir string, err error) error {
	if !durable.IsSync(err) {
		return err
	}
	mark, markErr := durable.OpenSyncMark(dir, false)
	if markErr != nil {
		return errors.Join(err, markErr)
	}
	_, noteErr := mark.Note(err)
	return errors.Join(err, noteErr, mark.Close())
}
