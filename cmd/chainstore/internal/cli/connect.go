// Package cli has what the commands share: the flags that name a cluster and its tokens, questions, and exit statuses.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/devcluster"
)

// Environment variables that replace flags.
const (
	EnvMasters      = "CHAINSTORE_MASTERS"
	EnvToken        = "CHAINSTORE_TOKEN"
	EnvAdminToken   = "CHAINSTORE_ADMIN_TOKEN"
	EnvClusterToken = "CHAINSTORE_CLUSTER_TOKEN"
)

// DefaultClusterFile returns the path of the cluster file that `chainstore dev` writes below the current folder.
func DefaultClusterFile() string { return devcluster.ClusterFilePath("chainstore-data") }

// Role selects the token that a command sends.
type Role int

const (
	AsProject Role = iota // a project token, to append and to read
	AsAny                 // a project token or the admin token, for status
	AsAdmin               // the admin token
	AsFounder             // the admin token if one is given; clusters with open registration need none
	AsAnyone              // a project token if one is given; only a private log needs one
)

// admin reports whether the role's token is the admin token.
func (r Role) admin() bool { return r == AsAdmin || r == AsFounder }

// optional reports whether the role works without a token.
func (r Role) optional() bool { return r == AsFounder || r == AsAnyone }

// token returns the name of the role's token, its flag and its environment variable.
func (r Role) token() (name, flag, env string) {
	if r.admin() {
		return "admin token", "admin-token-file", EnvAdminToken
	}
	return "project token", "token-file", EnvToken
}

// connection holds the flags that name a cluster and a token. The token itself is never a flag, because other users
// can see a command line.
type connection struct {
	role      Role
	masters   []string
	tokenFile string // with the admin token or a project token, depending on the role
	cluster   string
}

// Use describes how a command uses a cluster.
type Use struct {
	Role     Role
	RetryFor time.Duration // see [client.Config]
	JSON     string        // usage of the flag --json, "" for a command without it
}

// UseCluster adds the flags that name the cluster to cmd, and makes cmd call act with a client of that cluster. The
// flags are not inherited: sub-commands may need another token. A command without Args takes no arguments.
func UseCluster(cmd *cobra.Command, use Use, act func(c *Call) error) *cobra.Command {
	connect := &connection{role: use.Role}
	call := &Call{}
	name, flag, env := use.Role.token()
	flags := cmd.Flags()
	flags.StringSliceVar(&connect.masters, "masters", nil, "`URLs` of some or all masters (or "+EnvMasters+")")
	flags.StringVar(&connect.tokenFile, flag, "", "`file` with the "+name+" (or "+env+")")
	flags.StringVar(&connect.cluster, "cluster", "", "cluster `file` with the masters and tokens (default "+
		DefaultClusterFile()+" if it exists and nothing else is given)")
	MustComplete(cmd.MarkFlagFilename("cluster", "json"))
	NoFiles(cmd, "masters")
	if use.JSON != "" {
		AddJSON(cmd, &call.JSON, use.JSON)
	}
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		masters, token, err := connect.resolve()
		if err != nil {
			return err
		}
		call.Client, err = client.New(client.Config{Masters: masters, Token: token, RetryFor: use.RetryFor})
		if err != nil {
			return err
		}
		defer call.CloseIdle()
		call.Cmd, call.Ctx, call.Args, call.Out = cmd, cmd.Context(), args, cmd.OutOrStdout()
		return act(call)
	}
	return cmd
}

// Call is one run of a command that uses a cluster.
type Call struct {
	*client.Client
	Cmd  *cobra.Command
	Ctx  context.Context
	Args []string
	Out  io.Writer
	JSON bool // --json was given
}

// Print prints a result: as JSON with --json, and else as text.
func (c *Call) Print(result any, text string) error {
	return render.Print(c.Out, c.JSON, result, text)
}

// PrintList prints a list: each element as JSON with --json, and else all of it as text.
func PrintList[T any](c *Call, list []T, text string) error {
	if !c.JSON {
		return c.Print(nil, text)
	}
	for i := range list {
		if err := render.JSON(c.Out, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// Group makes cmd the parent of other commands. Without one of them it shows its help.
func Group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// ExactArgs requires the arguments that the Use line of a command names before its flags. The error asks for what is
// missing and may end with a hint.
func ExactArgs(asked string, hint ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage, _, _ := strings.Cut(cmd.Use, " --")
		if len(args) == len(strings.Fields(usage))-1 {
			return nil
		}
		path := strings.TrimPrefix(cmd.Parent().CommandPath()+" ", cmd.Root().Name()+" ")
		return fmt.Errorf("name %s: %s%s%s", asked, path, usage, strings.Join(hint, ""))
	}
}

// MustComplete panics if a completion was set for a flag that the command does not have.
func MustComplete(err error) {
	if err != nil {
		panic(err)
	}
}

// NoFiles stops the shell from completing the values of flags with file names.
func NoFiles(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		MustComplete(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
}

// resolve finds masters and token, each from its own flag, else from --cluster, else from the environment. The default
// cluster file is used only if none of these is set, so that a token is never sent to another cluster.
func (c *connection) resolve() (masters []string, token string, err error) {
	tokenName, tokenFlag, tokenEnv := c.role.token()
	envTok := strings.TrimSpace(os.Getenv(tokenEnv))
	envURLs := splitURLs(os.Getenv(EnvMasters))
	file := c.cluster
	if file == "" && len(c.masters) == 0 && c.tokenFile == "" && envTok == "" && len(envURLs) == 0 {
		if _, err := os.Stat(DefaultClusterFile()); err == nil {
			file = DefaultClusterFile()
		}
	}
	if file != "" {
		if masters, token, err = c.fromFile(file); err != nil {
			return nil, "", err
		}
	}
	if len(c.masters) > 0 {
		masters = c.masters
	}
	if c.tokenFile != "" {
		if token, err = ReadSecret(c.tokenFile, ""); err != nil {
			return nil, "", err
		}
	}
	if len(masters) == 0 {
		masters = envURLs
	}
	if token == "" {
		token = envTok
	}
	switch {
	case len(masters) == 0 && c.role.optional():
		return nil, "", fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,…, or "+
			"set %s", EnvMasters)
	case c.role.optional() && token == "":
	case len(masters) == 0:
		return nil, "", fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,… with "+
			"--%s FILE, or set %s and %s", tokenFlag, EnvMasters, tokenEnv)
	case token == "" && file != "":
		return nil, "", fmt.Errorf("%s holds no %s yet: give --%s FILE or set %s", file, tokenName, tokenFlag,
			tokenEnv)
	case token == "":
		return nil, "", fmt.Errorf("no %s is given: give --%s FILE, or --cluster DIR/cluster.json, or set %s",
			tokenName, tokenFlag, tokenEnv)
	}
	return masters, token, nil
}

// fromFile reads the masters and the role's token from a cluster file.
func (c *connection) fromFile(path string) (masters []string, token string, err error) {
	f, err := devcluster.ReadClusterFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: 'chainstore dev' writes it into its folder", err)
	}
	if err != nil {
		return nil, "", err
	}
	if c.role.admin() || c.role != AsProject && f.Tokens.Project == "" {
		return f.Masters, f.Tokens.Admin, nil
	}
	return f.Masters, f.Tokens.Project, nil
}

// splitURLs splits at commas and white space.
func splitURLs(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\n\r", r) })
}
