package secrets

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// checkInterval is how often the files are looked at.
const checkInterval = 2 * time.Second

// Names lists the secrets of a cluster, in the order of reports.
var Names = []string{wire.SecretMasters, wire.SecretStorage, wire.SecretMiner, wire.SecretRecovery, wire.SecretSeal}

// Files are the files of secrets. Those whose file is "" have the values of Cluster.
type Files struct{ Cluster, Masters, Storage, Miner, Recovery, Seal string }

// Path returns the field of a name.
func (f *Files) Path(name string) *string {
	switch name {
	case wire.SecretMasters:
		return &f.Masters
	case wire.SecretStorage:
		return &f.Storage
	case wire.SecretMiner:
		return &f.Miner
	case wire.SecretRecovery:
		return &f.Recovery
	}
	return &f.Seal
}

// Config says which secrets a node has.
type Config struct {
	Files   Files
	Cluster string   // the cluster token where Files.Cluster is "", which then cannot change; "" for none
	Uses    []string // the names of the secrets that the node needs
	// Lenient accepts a cluster token at the start that is weak or that others may read, with a warning: the data
	// folder is in use.
	Lenient bool
	Log     hclog.Logger
}

// Store has the secrets of a node. Any goroutine may use it.
type Store struct {
	log     hclog.Logger
	uses    []string
	sources map[string]*source // by name; several may be the same
	changed func()             // set before Watch is called
}

// source is a secret with its file. mu guards what is below it.
type source struct {
	path    string // "" for a value that was given directly
	shared  bool   // it is the cluster token
	secret  *nodeauth.Secret
	lenient bool

	mu     sync.Mutex
	values Values
	prints Values      // the fingerprints of the values: Report is called often, and a fingerprint takes microseconds
	seen   []byte      // the content of the file when it was looked at last
	perm   fs.FileMode // its mode then
	mode   error       // what is wrong with the mode of the file in use
	err    error       // why the file is not used as it is now
}

// Open reads the files. The error names the file that is wrong, and contains no part of a secret.
func Open(cfg Config) (*Store, error) {
	s := &Store{log: cfg.Log.Named("secrets"), uses: cfg.Uses, sources: map[string]*source{}}
	cluster := &source{path: cfg.Files.Cluster, shared: true, secret: nodeauth.NewSecret(), lenient: cfg.Lenient}
	opened := false
	for _, name := range cfg.Uses {
		if path := *cfg.Files.Path(name); path != "" {
			own := &source{path: path, secret: nodeauth.NewSecret()}
			if _, err := own.look(s.log); err != nil {
				return nil, err
			}
			s.sources[name] = own
			continue
		}
		if !opened {
			if err := cluster.open(cfg.Cluster, s.log); err != nil {
				return nil, err
			}
			opened = true
		}
		s.sources[name] = cluster
	}
	return s, nil
}

// ErrNone is the error of a node that has no value for a secret that it needs.
var ErrNone = fmt.Errorf("the cluster token is needed: --cluster-token-file FILE, or CHAINSTORE_CLUSTER_TOKEN")

// open reads the file of the cluster token, or takes the value that was given.
func (f *source) open(given string, log hclog.Logger) error {
	switch {
	case f.path != "":
		_, err := f.look(log)
		return err
	case given == "":
		return ErrNone
	}
	f.use(Values{Current: given})
	f.secret.Set(given)
	return nil
}

// use sets the values that the node proves and accepts.
func (f *source) use(values Values) {
	f.values = values
	f.prints = Values{
		Current: Fingerprint(values.Current), Next: Fingerprint(values.Next), Old: Fingerprint(values.Old),
	}
}

// Get returns the secret of a name, with all values that are accepted now and later. It is nil for a name that the node
// does not use.
func (s *Store) Get(name string) *nodeauth.Secret {
	if f := s.sources[name]; f != nil {
		return f.secret
	}
	return nil
}

// All returns the secrets for the calls between nodes.
func (s *Store) All() nodeauth.Secrets {
	return nodeauth.Secrets{
		Masters: s.Get(wire.SecretMasters), Storage: s.Get(wire.SecretStorage), Miner: s.Get(wire.SecretMiner),
		Recovery: s.Get(wire.SecretRecovery),
	}
}

// OnChange sets a function that is called after values have changed. It is set before Watch is called.
func (s *Store) OnChange(changed func()) { s.changed = changed }

// Watch looks at the files from time to time, until ctx ends, and uses new values. Wrong files are not used.
func (s *Store) Watch(ctx context.Context) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Reload()
		}
	}
}

// Reload looks at the files now. Errors are logged and reported.
func (s *Store) Reload() {
	var done []*source
	changed := false
	for _, name := range s.uses {
		f := s.sources[name]
		if f.path == "" || slices.Contains(done, f) {
			continue
		}
		done = append(done, f)
		new, err := f.look(s.log)
		changed = changed || new && err == nil
	}
	if changed && s.changed != nil {
		s.changed()
	}
}

// look reads the file if it is another one than at the last look. It reports whether new values are in use. A file that
// is wrong is not used, and its error is kept until it is right.
func (f *source) look(log hclog.Logger) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, mode, err := readFile(f.path)
	if err == nil && f.seen != nil && bytes.Equal(content, f.seen) && mode == f.perm && f.err == nil {
		return false, nil
	}
	var values Values
	if err == nil {
		values, err = Parse(content)
		if err != nil {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
	}
	started := f.seen != nil
	if err == nil {
		if err = checkMode(f.path, mode); isMounted(f.path, mode) {
			err = nil
		}
		switch {
		case err != nil && started && f.mode != nil && values == f.values && mode == f.perm:
			err = nil // as at the start
		case err != nil && !started && f.lenient:
			log.Warn("a file with a secret is not private", "error", err)
			f.mode, err = err, nil
		}
	}
	if err == nil {
		err = f.checkValues(values, started, log)
	}
	if err != nil {
		if started && (f.err == nil || f.err.Error() != err.Error()) {
			log.Error("the new file of a secret is not used, the values before it still are", "error", err)
		}
		f.err = err
		return false, err
	}
	changed = values != f.values
	f.seen, f.perm, f.err = content, mode, nil
	if changed {
		f.use(values)
		f.secret.Set(values.Accepted()...)
	}
	if changed && started {
		log.Info("new values of a secret are in use", "file", f.path, "current", f.prints.Current,
			"next", f.prints.Next, "old", f.prints.Old)
	}
	return changed, nil
}

// checkValues returns an error for weak values. One that is in use already, or that a lenient start finds, is accepted:
// it must be possible to replace it.
func (f *source) checkValues(values Values, started bool, log hclog.Logger) error {
	for _, value := range values.Accepted() {
		err := Check(value)
		switch {
		case err == nil || started && slices.Contains(f.values.Accepted(), value):
		case !started && f.lenient:
			log.Warn("a secret is weak: recorded calls let a stranger guess it; replace it with 'chainstore secret "+
				"rotate'", "file", f.path, "error", err)
		default:
			return fmt.Errorf("%s: a value %w; 'chainstore secret new' makes a good one", f.path, err)
		}
	}
	return nil
}

// Report says which values this node proves and accepts.
func (s *Store) Report() []wire.SecretUse {
	list := make([]wire.SecretUse, 0, len(s.uses))
	for _, name := range s.uses {
		f := s.sources[name]
		f.mu.Lock()
		use := wire.SecretUse{
			Secret: name, Shared: f.shared, Fixed: f.path == "", Current: f.prints.Current,
			Next: f.prints.Next, Old: f.prints.Old,
		}
		if f.err != nil {
			use.Error = f.err.Error()
		}
		f.mu.Unlock()
		list = append(list, use)
	}
	return list
}
