/*
 * AWSAuthenticationPlugin for localcloud's MariaDB: hands user and login token to a verifier on a unix socket.
 *
 * The socket's path is in the environment variable RDSIAM_VERIFIER. A question is two 32-bit lengths in network
 * order, the user's name and the token; the only answer that lets anybody in is the three bytes "OK\n" and then
 * the end of the stream, within 15 seconds. Whatever else happens, the login is refused (error 1045).
 *
 * The plugin API does not tell whether the connection is encrypted. What guards that are the accounts, which are
 * created REQUIRE SSL, as on RDS: the server refuses those without TLS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <mysql/plugin.h>
#include <mysql/plugin_auth.h>

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

static int authenticate(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;
  int length = vio->read_packet(vio, &packet);
  info->password_used = PASSWORD_USED_YES;
  if (length < 2 || length > MAX_TOKEN + 1 || info->user_name == NULL || info->user_name_length == 0)
    return CR_ERROR;
  /* mysql_clear_password ends the token with its only NUL. */
  if (memchr(packet, 0, (size_t) length) != packet + length - 1)
    return CR_ERROR;
  if (!verified(info->user_name, info->user_name_length, (const char *) packet, (size_t) length - 1))
    return CR_ERROR;
  return CR_OK;
}

static struct st_mysql_auth handler = {
  .interface_version = MYSQL_AUTHENTICATION_INTERFACE_VERSION,
  .client_auth_plugin = "mysql_clear_password",
  .authenticate_user = authenticate,
};

maria_declare_plugin(aws_authentication)
{
  MYSQL_AUTHENTICATION_PLUGIN,
  &handler,
  "AWSAuthenticationPlugin",
  "rdsiam",
  "Logs users in by RDS login tokens (localcloud)",
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
