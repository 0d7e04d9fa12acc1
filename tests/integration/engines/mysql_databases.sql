-- Objects of databases that people had before rdsiam, for MySQL and MariaDB; `ghost` does not exist.
CREATE TABLE shop.customer (id int PRIMARY KEY AUTO_INCREMENT, name varchar(80) NOT NULL, email varchar(80), secret text);
CREATE TABLE shop.invoice (id int PRIMARY KEY, customer_id int NOT NULL, total decimal(10,2),
  FOREIGN KEY (customer_id) REFERENCES shop.customer (id));
CREATE TABLE shop.log (at timestamp DEFAULT CURRENT_TIMESTAMP, text varchar(200));
CREATE TABLE my_app.settings (k varchar(40) PRIMARY KEY, v text);
CREATE TABLE `Sales%2024`.deal (id int, amount int, KEY (amount));
CREATE DEFINER=legacy@'%' SQL SECURITY DEFINER VIEW shop.open_invoice
  AS SELECT i.id, c.name, i.total FROM shop.invoice i JOIN shop.customer c ON c.id = i.customer_id;
CREATE DEFINER=legacy@'%' SQL SECURITY INVOKER VIEW shop.customer_mail
  AS SELECT name, email FROM shop.customer;
CREATE DEFINER=ghost@'%' SQL SECURITY DEFINER VIEW shop.of_a_ghost AS SELECT id FROM shop.customer;
CREATE DEFINER=app@'10.%' SQL SECURITY DEFINER VIEW my_app.of_app AS SELECT k FROM my_app.settings;
CREATE DEFINER=legacy@'%' VIEW `Mixed_Case`.across AS SELECT id FROM `Sales%2024`.deal;
CREATE DEFINER=legacy@'%' FUNCTION shop.total(customer int) RETURNS decimal(10,2)
  READS SQL DATA SQL SECURITY DEFINER RETURN (SELECT SUM(total) FROM shop.invoice WHERE customer_id = customer);
CREATE DEFINER=legacy@'%' PROCEDURE shop.note(IN what varchar(200))
  MODIFIES SQL DATA SQL SECURITY DEFINER INSERT INTO shop.log (text) VALUES (what);
CREATE DEFINER=ghost@'%' PROCEDURE my_app.of_a_ghost() SQL SECURITY INVOKER SELECT COUNT(*) FROM my_app.settings;
CREATE DEFINER=legacy@'%' TRIGGER shop.noted BEFORE INSERT ON shop.invoice
  FOR EACH ROW INSERT INTO shop.log (text) VALUES (CONCAT('invoice ', NEW.id));
CREATE DEFINER=ghost@'%' TRIGGER `Sales%2024`.checked BEFORE UPDATE ON `Sales%2024`.deal
  FOR EACH ROW SET NEW.amount = ABS(NEW.amount);
CREATE DEFINER=legacy@'%' EVENT shop.nightly
  ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DO DELETE FROM shop.log;
CREATE DEFINER=app@'10.%' EVENT my_app.`weekly_%`
  ON SCHEDULE EVERY 1 WEEK STARTS '2037-01-01 00:00:00' DISABLE DO SELECT 1;
