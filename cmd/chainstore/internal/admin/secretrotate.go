package admin

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

// secretCluster names the secret that all those are which have no file of their own.
const secretCluster = "cluster"

// rotation is a run of 'chainstore secret rotate'.
type rotation struct {
	*cli.Call
	secret string
	files  []string
	wait   time.Duration
	start  bool   // begin a rotation
	copier string // command of the shell, "" for none
}

func newSecretRotateCommand() *cobra.Command {
	var r rotation
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "rotate cluster|masters|storage|miner|recovery|seal --file FILE",
		Short: "Replace a secret while the cluster runs",
		Long: `Replace a secret while the cluster runs. --file names the file of the secret on this machine; repeat it
for several. With --begin the command makes a new value. It goes through three steps:

  1. the file gets the new value as the next one, and all nodes must accept it
  2. the new value becomes the current one, and all nodes must prove it
  3. the file loses the old value

After each step it waits for all nodes. With --copy it first runs a command that copies the file to the other machines.
If some nodes have not followed, it names them and ends: copy the file to their machines, and run the command again
without --begin. It goes on where it was. The old value is dropped only when no node proves it. Nothing is restarted.`,
		Example: `  chainstore secret rotate cluster --begin --file /etc/chainstore/cluster.token
  chainstore secret rotate masters --begin --file masters.secret --copy ./copy-files
  chainstore secret rotate masters --file /etc/chainstore/masters.secret --wait 5m`,
		Args: cli.ExactArgs("one secret"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		r.Call, r.secret = c, c.Args[0]
		switch {
		case r.secret != secretCluster && !slices.Contains(secrets.Names, r.secret):
			return fmt.Errorf("there is no secret %q: name one of cluster, masters, storage, miner, recovery and seal",
				r.secret)
		case len(r.files) == 0:
			return errors.New("name the file of the secret on this machine with --file")
		}
		return r.run()
	})
	flags := cmd.Flags()
	flags.StringArrayVar(&r.files, "file", nil, "`file` of the secret on this machine; repeat it for several")
	flags.DurationVar(&r.wait, "wait", time.Minute, "how long to wait for the nodes after each step")
	flags.BoolVar(&r.start, "begin", false, "begin a rotation")
	flags.StringVar(&r.copier, "copy", "", "`command` of the shell that copies the files to the other machines, run "+
		"before each wait")
	names := append([]string{secretCluster}, secrets.Names...)
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cli.NoFiles(cmd, "wait")
	return cmd
}

// run does the steps that are left. Which they are follows from the files and from what the nodes say.
func (r *rotation) run() error {
	now, err := r.read()
	if err != nil {
		return err
	}
	switch {
	case now.Next == "" && now.Old == "":
		begun, err := r.begin(&now)
		if err != nil || !begun {
			return err
		}
	case r.start:
		return errors.New("a rotation is in progress: run the command without --begin to go on with it")
	}
	if now.Next != "" {
		if err := r.write(now); err != nil {
			return err
		}
		next := secrets.Fingerprint(now.Next)
		err := r.await("step 1 of 3: all nodes must accept the next value "+next,
			func(u wire.SecretUse) bool { return u.Accepts(next) })
		if err != nil {
			return err
		}
		now = secrets.Values{Current: now.Next, Old: now.Current}
	}
	if now.Old != "" {
		if err := r.write(now); err != nil {
			return err
		}
		current := secrets.Fingerprint(now.Current)
		err := r.await("step 2 of 3: all nodes must prove the new value "+current,
			func(u wire.SecretUse) bool { return u.Current == current })
		if err != nil {
			return err
		}
		now.Old = ""
		if err := r.write(now); err != nil {
			return err
		}
	}
	return r.finish(now)
}

// finish waits until no node accepts another value than the new one.
func (r *rotation) finish(now secrets.Values) error {
	current := secrets.Fingerprint(now.Current)
	err := r.await("step 3 of 3: all nodes must drop the old value", func(u wire.SecretUse) bool {
		return u.Current == current && u.Next == "" && u.Old == ""
	})
	if err == nil {
		err = r.say("done: all nodes use the value %s of the secret %s, and no other", current, r.secret)
	}
	return err
}

func (r *rotation) say(format string, args ...any) error {
	_, err := fmt.Fprintf(r.Out, format+"\n", args...)
	return err
}

// read returns the values of the files. Files that are at different steps have those of the step that was reached: an
// interrupted run has verified it.
func (r *rotation) read() (now secrets.Values, err error) {
	known := map[string]bool{}
	for i, path := range r.files {
		v, err := secrets.ReadFile(path)
		if err != nil {
			return now, err
		}
		for _, value := range v.Accepted() {
			known[value] = true
		}
		switch {
		case len(known) > 2:
			return now, fmt.Errorf("%s: the files have more than two values in all: they are of several secrets", path)
		case i == 0 || v.Old != "" || v.Next != "" && now.Old == "":
			now = v
		}
	}
	for value := range known {
		if !slices.Contains(now.Accepted(), value) {
			return now, errors.New("the files have different values, and none has both: they are of several secrets")
		}
	}
	return now, nil
}

// write writes the files that have other values.
func (r *rotation) write(want secrets.Values) error {
	for _, path := range r.files {
		if v, err := secrets.ReadFile(path); err == nil && v == want {
			continue
		}
		if err := secrets.WriteFile(path, want); err != nil {
			return err
		}
		if err := r.say("wrote %s", path); err != nil {
			return err
		}
	}
	return nil
}

// begin begins a rotation, unless one that was begun elsewhere, or has not ended everywhere, is in progress.
func (r *rotation) begin(now *secrets.Values) (bool, error) {
	rows, silent, _, err := r.look()
	if err != nil {
		return false, err
	}
	current := secrets.Fingerprint(now.Current)
	for i := range rows {
		u := &rows[i]
		switch {
		case u.Current == current && u.Old != "" && !r.start:
			return false, r.finish(*now) // the files here are at the end already
		case u.Current == current && u.Old != "":
			return false, fmt.Errorf("%s %s still accepts the old value: run the command without --begin to end the "+
				"rotation before it", u.Role, u.Node)
		case u.Current != current || u.Next != "":
			return false, fmt.Errorf("%s %s proves the value %s and accepts %s, and the file here has only %s: a "+
				"rotation was begun with another file: copy that one here, and run the command without --begin", u.Role,
				u.Node, u.Current, orNone(u.Next+u.Old), current)
		}
	}
	if !r.start {
		return false, r.say("no rotation is in progress: every node that is known uses the value %s of the secret %s, "+
			"and no other; --begin begins one", current, r.secret)
	}
	if len(silent) > 0 {
		return false, fmt.Errorf("no value is known of %s: start these nodes with this version of ChainStore, or "+
			"remove them from the cluster, before the secret is replaced", nodesOf(silent))
	}
	if len(rows) == 0 {
		return false, fmt.Errorf("no node uses the secret %s: give the nodes a file of it first", r.secret)
	}
	now.Next = secrets.New()
	return true, nil
}

func orNone(text string) string {
	if text == "" {
		return "no other"
	}
	return text
}

// look asks the leader for the nodes that use the secret, and for those that have not said which they use. sealed
// reports whether all keys of the log are sealed under the present value.
func (r *rotation) look() (rows, silent []secretRow, sealed bool, err error) {
	status, err := r.Cluster(r.Ctx)
	if err != nil {
		return nil, nil, false, err
	}
	if !status.Authoritative {
		return nil, nil, false, errors.New("the leader does not answer, so it is not known what the nodes use")
	}
	all, quiet := secretRows(&status)
	for _, row := range all {
		if row.Secret == r.secret || r.secret == secretCluster && row.Shared {
			rows = append(rows, row)
		}
	}
	for _, row := range quiet {
		uses := row.Role == "master" || r.secret == secretCluster || r.secret == row.Role ||
			r.secret == wire.SecretRecovery && row.Role == "storage"
		if uses {
			silent = append(silent, row)
		}
	}
	sealed = !slices.ContainsFunc(status.NoticesCoded, func(m wire.Message) bool { return m.Code == wire.CodeSealOld })
	return rows, silent, sealed || r.secret != wire.SecretSeal && r.secret != secretCluster, nil
}

// await waits until all nodes that use the secret are as they must be, and the keys of the log are sealed again. The
// error says what to do on the machines of those that are not.
func (r *rotation) await(what string, is func(wire.SecretUse) bool) error {
	if err := r.say("%s", what); err != nil {
		return err
	}
	if err := r.copyFiles(); err != nil {
		return err
	}
	for end := time.Now().Add(r.wait); ; {
		rows, silent, sealed, err := r.look()
		var missing []secretRow
		for _, row := range rows {
			if !is(row.SecretUse) {
				missing = append(missing, row)
			}
		}
		if err == nil && len(missing)+len(silent) == 0 && sealed && len(rows) > 0 {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(err, r.todo(missing, silent, sealed))
		}
		select {
		case <-r.Ctx.Done():
			return r.Ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// copyFiles runs the command of --copy. One that was interrupted may have copied the files to some machines only, so it
// runs before every wait.
func (r *rotation) copyFiles() error {
	if r.copier == "" {
		return nil
	}
	cmd := exec.CommandContext(r.Ctx, "/bin/sh", "-c", r.copier)
	cmd.Stdout, cmd.Stderr = r.Cmd.ErrOrStderr(), r.Cmd.ErrOrStderr()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("--copy %q: %w; correct what is wrong, then run this command again, without --begin: it "+
			"goes on with this step", r.copier, err)
	}
	return nil
}

// todo says what is to be done before the rotation goes on.
func (r *rotation) todo(missing, silent []secretRow, sealed bool) error {
	var list []error
	for i := range missing {
		m := &missing[i]
		switch {
		case m.Fixed:
			list = append(list, fmt.Errorf("%s %s has the secret from its environment: restart it with a copy of %s "+
				"as the file of the secret", m.Role, m.Node, r.files[0]))
		case m.Error != "":
			list = append(list, fmt.Errorf("%s %s does not use its file: %s", m.Role, m.Node, m.Error))
		default:
			list = append(list, fmt.Errorf("%s %s has not followed (secret %s): copy %s to its machine, beside the "+
				"file of its secret, with mode 0600 and the owner of that file, and rename it to that file", m.Role,
				m.Node, m.Secret, r.files[0]))
		}
	}
	if len(silent) > 0 {
		list = append(list, fmt.Errorf("not known, which values these accept: %s: start them, or remove them from the "+
			"cluster", nodesOf(silent)))
	}
	if !sealed {
		list = append(list, errors.New("the leader has not sealed the keys of the log again yet: see "+
			"'chainstore status'"))
	}
	then := errors.New("then run this command again, without --begin: it goes on with this step")
	return errors.Join(append(list, then)...)
}
