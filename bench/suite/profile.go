package suite

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// profileOffset is the distance from the cluster's base port to the first port of the roles' profiles.
const profileOffset = 90

// profiler takes CPU profiles of all roles during the last run of each scenario.
type profiler struct {
	dir   string
	roles []devcluster.Role
}

// start begins to take profiles for d and returns a function that waits for them. They are files
// <scenario>-<role>.pb.gz in the folder. A nil profiler takes none.
func (p *profiler) start(ctx context.Context, scenario string, d time.Duration) (wait func() error) {
	if p == nil {
		return func() error { return nil }
	}
	g, ctx := errgroup.WithContext(ctx)
	seconds := strconv.Itoa(max(1, int(d.Seconds())))
	for _, role := range p.roles {
		g.Go(func() error {
			err := fetch(ctx, "http://"+role.Profiles+"/debug/pprof/profile?seconds="+seconds,
				filepath.Join(p.dir, scenario+"-"+role.Name+".pb.gz"))
			if err != nil {
				return fmt.Errorf("profile of %s: %w", role.Name, err)
			}
			return nil
		})
	}
	return g.Wait
}

// fetch writes the body of a URL to a file.
func fetch(ctx context.Context, url, path string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(answer.Body)
	return errors.Join(err, f.Close())
}
