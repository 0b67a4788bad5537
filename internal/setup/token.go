package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// missingToken returns the step that makes the token; none if its secret is here.
//
// Proxmox shows the secret once. So a file of its size is on the disk before, with a random text that is in the comment of the token
// as well. If the answer is lost, the next setup finds both, and knows that nobody has the secret of that token.
func (a Account) missingToken(ctx context.Context, admin *proxmox.Client, userExists bool) ([]Step, error) {
	if a.Here {
		return nil, nil
	}
	var comment string
	exists := false
	if userExists { // otherwise Proxmox refuses the question of everybody but root@pam
		var err error
		if comment, exists, err = admin.TokenComment(ctx, a.user(), a.id()); err != nil {
			return nil, err
		}
	}
	orphan := exists && a.Place.pending().made(a.Token(), comment)
	if exists && !orphan {
		return nil, a.taken(ctx, admin)
	}
	step := Step{
		What: "token " + a.Token(), Note: "with privilege separation; its secret in " + a.Place.Path(TokenFile),
		Undo: []string{a.Place.removal(TokenFile)},
		Make: func(ctx context.Context) error { return a.makeToken(ctx, admin, orphan) },
	}
	if userExists {
		step.Undo = append(step.Undo, fmt.Sprintf("pveum user token remove %s %s", check.Quote(a.user()), a.id()))
	}
	return []Step{step}, nil
}

// id returns the name of the token without its user.
func (a Account) id() string {
	_, id, _ := strings.Cut(a.Token(), "!")
	return id
}

// taken is the error of a token whose secret somebody else has. It proposes a name that is free.
func (a Account) taken(ctx context.Context, admin *proxmox.Client) error {
	free := a.id()
	for n := 2; n < 100; n++ {
		free = fmt.Sprintf("%s%d", a.id(), n)
		if _, exists, err := admin.TokenComment(ctx, a.user(), free); err != nil || !exists {
			break
		}
	}
	return check.Errorf(check.TokenTaken, "the token %s exists, and its secret is not in %s: it is not replaced, because somebody may use it",
		a.Token(), a.Place.Path(TokenFile)).
		Try(check.Hintf("add --token-id %s to make another token beside it", free),
			"add --token-file FILE if its secret is in a file")
}

// makeToken makes the token and stores its secret.
func (a Account) makeToken(ctx context.Context, admin *proxmox.Client, orphan bool) error {
	if orphan {
		if err := admin.RemoveToken(ctx, a.user(), a.id()); err != nil {
			return err
		}
	}
	mark := rand.Text()
	if err := a.Place.reserve(a.Token(), mark); err != nil {
		return err
	}
	token, err := admin.MakeToken(ctx, a.user(), a.id(), "keeps OpenID Connect realms; made by proxmox-realm init "+mark)
	if err != nil {
		return err
	}
	if err := a.Place.store(token); err != nil {
		removed := admin.RemoveToken(ctx, a.user(), a.id()) // nobody will ever have its secret
		if removed == nil {
			_ = os.Remove(a.Place.Path(pendingFile)) // or the next setup would take what stands there for a good token
		}
		return errors.Join(err, removed)
	}
	return nil
}

// pending is a token that a setup began to make.
type pending struct{ name, mark string }

// made tells whether a token with this comment is the pending one.
func (p pending) made(name, comment string) bool {
	return p.mark != "" && p.name == name && strings.HasSuffix(comment, " "+p.mark)
}

// pending reads what [Place.reserve] wrote.
func (p Place) pending() pending {
	data, err := disk.ReadOwn(p.Path(pendingFile), limit)
	if err != nil {
		return pending{}
	}
	words := strings.Fields(string(data))
	if len(words) != 2 {
		return pending{}
	}
	return pending{words[0], words[1]}
}

// secretSize is more than the line of a token takes, in bytes.
const secretSize = 512

// reserve takes the space for a token. A file of an earlier setup goes.
func (p Place) reserve(name, mark string) error {
	path := p.Path(pendingFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unusable(path, err)
	}
	if err := disk.Create(path, fmt.Appendf(nil, "%-*s\n", secretSize, name+" "+mark)); err != nil {
		return unusable(p.Path(TokenFile), err)
	}
	return nil
}

// store writes the token into the space that is reserved for it, and gives it its name.
func (p Place) store(token config.Token) error {
	path := p.Path(pendingFile)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return unusable(path, err)
	}
	line := token.Full().Reveal() + "\n"
	_, err = file.WriteAt([]byte(line), 0)
	err = errors.Join(err, file.Truncate(int64(len(line))), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(path, p.Path(TokenFile))
	}
	if err != nil {
		return unusable(p.Path(TokenFile), err)
	}
	return nil
}

// finish gives its name to a token that an interrupted setup stored, and did not name yet.
func (p Place) finish() error {
	text, err := p.Read(pendingFile)
	if err != nil || p.Has(TokenFile) {
		return err
	}
	first, _, _ := strings.Cut(text, "\n")
	if token, err := config.ParseToken(realm.VE, first); err == nil {
		return p.store(token)
	}
	return nil
}
