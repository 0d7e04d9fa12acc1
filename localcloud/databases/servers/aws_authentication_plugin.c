/*
 * AWSAuthenticationPlugin for localcloud's MariaDB and MySQL: hands user and login token to a verifier on a unix socket.
 *
 * The socket's path is in the environment variable RDSIAM_VERIFIER. A question is two 32-bit lengths in network
 * order, the user's name and the token; the only answer that lets anybody in is the three bytes "OK\n" and then
 * the end of the stream, within 15 seconds. Whatever else happens, the login is refused (error 1045).
 *
 * With -DMARIADB it is built for MariaDB, with the headers of that server. MariaDB does not tell a plugin whether the
 * connection is encrypted; what guards that are the accounts, which are created REQUIRE SSL, as on RDS.
 *
 * Without it, it is built for Oracle's MySQL from 8.0 on, for which Debian packages no headers: "The server's side"
 * declares what both have to agree on, as MySQL's "Writing Authentication Plugins" documents it and as the data of the
 * shipped auth_socket.so have it. MySQL tells whether the connection is encrypted: without TLS no user gets in.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- The verifier ---- */

enum { MAX_TOKEN = 65536, LIMIT_MS = 15000 };

static int64_t now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket can be read or written; 0 if it can before the deadline. */
static int wait_for(int fd, short what, int64_t deadline)
{
  for (;;)
  {
    struct pollfd entry = { fd, what, 0 };
    int64_t left = deadline - now_ms();
    int ready;
    if (left <= 0)
      return -1;
    ready = poll(&entry, 1, (int) left);
    if (ready > 0)
      return 0;
    if (ready == 0 || errno != EINTR)
      return -1;
  }
}

static int send_all(int fd, const void *data, size_t length, int64_t deadline)
{
  const char *at = data;
  while (length > 0)
  {
    ssize_t sent;
    if (wait_for(fd, POLLOUT, deadline) != 0)
      return -1;
    sent = send(fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (sent <= 0)
      return -1;
    at += sent;
    length -= (size_t) sent;
  }
  return 0;
}

/* 0 if the answer is exactly "OK\n". */
static int receive_consent(int fd, int64_t deadline)
{
  char answer[4];
  size_t length = 0;
  while (length < sizeof answer)
  {
    ssize_t got;
    if (wait_for(fd, POLLIN, deadline) != 0)
      return -1;
    got = recv(fd, answer + length, sizeof answer - length, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (got < 0)
      return -1;
    if (got == 0)
      break;
    length += (size_t) got;
  }
  return length == 3 && memcmp(answer, "OK\n", 3) == 0 ? 0 : -1;
}

static int connect_to_verifier(void)
{
  const char *path = getenv("RDSIAM_VERIFIER");
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd;
  if (path == NULL || strlen(path) >= sizeof address.sun_path)
    return -1;
  strcpy(address.sun_path, path);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof address) != 0)
  {
    close(fd);
    return -1;
  }
  return fd;
}

static int verified(const char *user, size_t user_length, const char *token, size_t token_length)
{
  uint32_t head[2] = { htonl((uint32_t) user_length), htonl((uint32_t) token_length) };
  int64_t deadline = now_ms() + LIMIT_MS;
  int fd = connect_to_verifier();
  int refused;
  if (fd < 0)
    return 0;
  refused = send_all(fd, head, sizeof head, deadline) != 0 || send_all(fd, user, user_length, deadline) != 0 ||
            send_all(fd, token, token_length, deadline) != 0 || receive_consent(fd, deadline) != 0;
  close(fd);
  return !refused;
}

/* Admit the user if the packet holds a good token. */
static int admits(const char *user, size_t user_length, const unsigned char *packet, int length)
{
  if (length < 2 || length > MAX_TOKEN + 1 || user == NULL || user_length == 0)
    return 0;
  /* mysql_clear_password ends the token with its only NUL. */
  if (memchr(packet, 0, (size_t) length) != packet + length - 1)
    return 0;
  return verified(user, user_length, (const char *) packet, (size_t) length - 1);
}

#define NAME "AWSAuthenticationPlugin"
#define AUTHOR "rdsiam"
#define DESCRIPTION "Logs users in by RDS login tokens (localcloud)"
#define CLIENT_PLUGIN "mysql_clear_password"

#ifdef MARIADB

#include <mysql/plugin.h>
#include <mysql/plugin_auth.h>

static int authenticate(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;
  int length = vio->read_packet(vio, &packet);
  info->password_used = PASSWORD_USED_YES;
  return admits(info->user_name, info->user_name_length, packet, length) ? CR_OK : CR_ERROR;
}

static struct st_mysql_auth handler = {
  .interface_version = MYSQL_AUTHENTICATION_INTERFACE_VERSION,
  .client_auth_plugin = CLIENT_PLUGIN,
  .authenticate_user = authenticate,
};

maria_declare_plugin(aws_authentication)
{
  MYSQL_AUTHENTICATION_PLUGIN,
  &handler,
  NAME,
  AUTHOR,
  DESCRIPTION,
  PLUGIN_LICENSE_BSD,
  NULL,
  NULL,
  0x0100,
  NULL,
  NULL,
  "1.0",
  MariaDB_PLUGIN_MATURITY_STABLE
}
maria_declare_plugin_end;

#else

/* ---- The server's side (x86-64 and AArch64: the same layout) ---- */

enum { REFUSED = 0, ADMITTED = -1 };
enum { PASSWORD_USED = 1 }; /* the message of error 1045: "(using password: YES)" */
enum { KIND_AUTHENTICATION = 7, PLUGIN_INTERFACE = 0x010b, AUTHENTICATION_INTERFACE = 0x0201, LICENSE_BSD = 2 };

struct connection
{
  int protocol;
  int socket;
  bool encrypted;
};

struct vio
{
  int (*read_packet)(struct vio *, unsigned char **);
  int (*write_packet)(struct vio *, const unsigned char *, int);
  void (*info)(struct vio *, struct connection *);
  /* More follow, which only clients use. */
};

struct login
{
  char *user;
  unsigned int user_length;
  const char *stored;
  unsigned long stored_length;
  char authenticated_as[97];
  char external_user[512];
  int password_used;
  /* More follow, whose number grew from version to version. */
};

struct authentication
{
  int interface;
  const char *client_plugin;
  int (*authenticate)(struct vio *, struct login *);
  int (*make_stored)(char *out, unsigned int *out_length, const char *in, unsigned int in_length);
  int (*check_stored)(char *in, unsigned int length);
  int (*set_salt)(const char *stored, unsigned int stored_length, unsigned char *salt, unsigned char *salt_length);
  unsigned long flags;
  int (*compare)(const char *, unsigned long, const char *, unsigned long, int *);
};

struct plugin
{
  int kind;
  void *handler;
  const char *name, *author, *description;
  int license;
  void *init, *check_uninstall, *deinit;
  unsigned int version;
  void *status, *variables, *reserved;
  unsigned long flags;
};

static int authenticate(struct vio *vio, struct login *login)
{
  struct connection connection = { 0 };
  unsigned char *packet;
  int length = vio->read_packet(vio, &packet);
  login->password_used = PASSWORD_USED;
  vio->info(vio, &connection);
  return connection.encrypted && admits(login->user, login->user_length, packet, length) ? ADMITTED : REFUSED;
}

/* IDENTIFIED WITH AWSAuthenticationPlugin BY '...': there is no password to keep. */
static int make_stored(char *out, unsigned int *out_length, const char *in, unsigned int in_length)
{
  (void) out, (void) in;
  *out_length = 0;
  return in_length != 0;
}

/* IDENTIFIED WITH AWSAuthenticationPlugin AS '...': 'RDS' or nothing. */
static int check_stored(char *in, unsigned int length)
{
  return !(length == 0 || (length == 3 && memcmp(in, "RDS", 3) == 0));
}

static int set_salt(const char *stored, unsigned int stored_length, unsigned char *salt, unsigned char *salt_length)
{
  (void) stored, (void) stored_length, (void) salt;
  *salt_length = 0;
  return 0;
}

static struct authentication handler = {
  .interface = AUTHENTICATION_INTERFACE,
  .client_plugin = CLIENT_PLUGIN,
  .authenticate = authenticate,
  .make_stored = make_stored,
  .check_stored = check_stored,
  .set_salt = set_salt,
};

__attribute__((visibility("default"))) int _mysql_plugin_interface_version_ = PLUGIN_INTERFACE;
__attribute__((visibility("default"))) int _mysql_sizeof_struct_st_plugin_ = sizeof(struct plugin);
__attribute__((visibility("default"))) struct plugin _mysql_plugin_declarations_[] = {
  {
    .kind = KIND_AUTHENTICATION,
    .handler = &handler,
    .name = NAME,
    .author = AUTHOR,
    .description = DESCRIPTION,
    .license = LICENSE_BSD,
    .version = 0x0100,
  },
  { 0 },
};

#endif
